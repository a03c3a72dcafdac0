// A product of matrices, batched: c = a b. `matmul.rs` beside this file is the definition.
//
// Shapes: a [batch, head, m, k], b [batch, head, k, n], each with strides of its own, so that a transposed or split tensor is read
// where it lies; c [batch, head, m, n], contiguous.
//
// One workgroup of 64 invocations makes a tile of 32 x 32 of c: workgroup x is the tile's place along n, y along m, z is
// batch * heads + head. Invocation (x, y) of 8 x 8 makes 4 x 4 of the tile, as 4 vectors: a step along k reads 8 numbers for 16
// multiplications.
//
// It is short on purpose, without workgroup memory: tiles that are shared behind barriers are faster on large products, and take a browser
// or a GPU emulated by a CPU a second to compile, where this takes a thirtieth of that.
//
// Numerics: f32, summed along k in order. An invocation at the edge reads the last row or column again, and does not write it.
//
// Limits: 64 invocations, no workgroup memory, 4 storage buffers; no subgroups, no f16. All bindings are read_write because the
// runtime may cut several tensors from one buffer.

const TILE: u32 = 32u;

struct Params {
    m: u32,
    n: u32,
    k: u32,
    heads: u32,
    // Strides of batch, head, row and column.
    a_strides: vec4u,
    b_strides: vec4u,
}

@group(0) @binding(0) var<storage, read_write> a: array<f32>;
@group(0) @binding(1) var<storage, read_write> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
@group(0) @binding(3) var<storage, read_write> params: Params;

fn write(pair: u32, row: u32, column: u32, sums: vec4f) {
    let first = (pair * params.m + row) * params.n + column;
    for (var j = 0u; j < 4u && row < params.m && column + j < params.n; j++) {
        c[first + j] = sums[j];
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let batch = group.z / params.heads;
    let head = group.z % params.heads;
    let row = group.y * TILE + 4u * (lane / 8u);
    let column = group.x * TILE + 4u * (lane % 8u);
    let four = vec4u(0u, 1u, 2u, 3u);
    let rows = min(row + four, vec4u(params.m - 1u));
    let columns = min(column + four, vec4u(params.n - 1u));
    var left = batch * params.a_strides.x + head * params.a_strides.y + rows * params.a_strides.z;
    var right = batch * params.b_strides.x + head * params.b_strides.y + columns * params.b_strides.w;
    let k = params.k;
    let left_step = params.a_strides.w;
    let right_step = params.b_strides.z;
    var sums_0 = vec4f();
    var sums_1 = vec4f();
    var sums_2 = vec4f();
    var sums_3 = vec4f();
    for (var i = 0u; i < k; i++) {
        let of_b = vec4f(b[right.x], b[right.y], b[right.z], b[right.w]);
        sums_0 += a[left.x] * of_b;
        sums_1 += a[left.y] * of_b;
        sums_2 += a[left.z] * of_b;
        sums_3 += a[left.w] * of_b;
        left += left_step;
        right += right_step;
    }
    write(group.z, row, column, sums_0);
    write(group.z, row + 1u, column, sums_1);
    write(group.z, row + 2u, column, sums_2);
    write(group.z, row + 3u, column, sums_3);
}
