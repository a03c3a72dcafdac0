// What survives a reload: the last session's archive, and the records of finished runs. One IndexedDB, two stores.

const open = () => new Promise((done, fail) => {
  const asked = indexedDB.open("upstill", 1);
  asked.onupgradeneeded = () => { asked.result.createObjectStore("last"); asked.result.createObjectStore("runs", { keyPath: "id" }); };
  asked.onsuccess = () => done(asked.result);
  asked.onerror = () => fail(asked.error);
});

async function use(store, mode, work) {
  const database = await open();
  try {
    const transaction = database.transaction(store, mode);
    const asked = work(transaction.objectStore(store));
    return await new Promise((done, fail) => {
      // A write counts when the transaction is through, not before: a full disk shows up there.
      transaction.oncomplete = () => done(asked?.result);
      transaction.onerror = transaction.onabort = () => fail(transaction.error ?? asked?.error ?? new Error("storage failed"));
    });
  } finally {
    database.close();
  }
}

export const keepSession = (session) => use("last", "readwrite", (store) => store.put(session, "session"));
export const lastSession = () => use("last", "readonly", (store) => store.get("session"));
export const forgetSession = () => use("last", "readwrite", (store) => store.delete("session"));
export const keepRun = (run) => use("runs", "readwrite", (store) => store.put(run));
export const allRuns = () => use("runs", "readonly", (store) => store.getAll());
export const forgetRun = (id) => use("runs", "readwrite", (store) => store.delete(id));
