// What this browser can do.

/// The GPU that is offered, or null.
export async function gpu() {
  try {
    const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
    if (!adapter) return null;
    const { vendor, architecture, device, description } = adapter.info;
    const name = description || [vendor, architecture, device].filter(Boolean).join(" ") || "a GPU";
    const software = adapter.info.isFallbackAdapter || /swiftshader|llvmpipe|software/i.test(`${name} ${architecture}`);
    return { name, software, vendor, architecture, limits: adapter.limits, features: [...adapter.features].sort() };
  } catch {
    return null;
  }
}

const LIMITS = [
  "maxStorageBufferBindingSize", "maxBufferSize", "maxComputeWorkgroupStorageSize", "maxComputeInvocationsPerWorkgroup",
  "maxStorageBuffersPerShaderStage", "maxComputeWorkgroupsPerDimension",
];

/// A text about the browser, its GPU, and every kernel on both devices; `ask(device)` has the worker check.
export async function browserReport(ask, adapter, soFar) {
  const lines = [`browser   ${navigator.userAgent}`, `cores     ${navigator.hardwareConcurrency ?? "unknown"}`];
  if (adapter) {
    lines.push(`gpu       ${adapter.name}${adapter.software ? " (imitated by the CPU)" : ""}`);
    for (const name of LIMITS) lines.push(`          ${name} ${adapter.limits[name]}`);
    lines.push(`          features: ${adapter.features.join(", ") || "none"}`);
  } else lines.push("gpu       none: this browser offers no WebGPU adapter");
  for (const on of adapter ? ["cpu", "wgpu"] : ["cpu"]) {
    soFar([...lines, `checking the kernels on ${on} ...`].join("\n"));
    const { result, error } = await ask(on);
    if (error) lines.push(`${on.padEnd(10)}FAILED: ${error}`);
    for (const { name, cases, excess, worst } of result ?? []) {
      const verdict = excess <= 1 ? "ok" : `FAILED in "${worst}"`;
      lines.push(`${on.padEnd(10)}${name}: ${verdict}, ${cases} cases, at most ${excess === null ? "infinitely" : excess.toPrecision(2)} of what is allowed`);
    }
  }
  return lines.join("\n");
}
