// Runs something in a network namespace on this thread: sockets, threads and programs made meanwhile stay there.

import { CLONE_NEWNET, close, open, setns } from '../../src/io/syscalls.ts'
import type { Namespace } from '../../src/lab/world/namespace.ts'

/** `work` must be synchronous: the namespace is the thread's, and other code of this thread would run in it too. */
export function inside<T>(namespace: Namespace, work: () => T): T {
  const home = open('/proc/thread-self/ns/net', 0)
  const there = open(namespace.path, 0)
  try {
    setns(there, CLONE_NEWNET)
    try {
      return work()
    } finally {
      setns(home, CLONE_NEWNET)
    }
  } finally {
    close(there)
    close(home)
  }
}

/** An address as loaded from a packet. */
export const addr = (text: string): number => new Int32Array(Uint8Array.from(text.split('.'), Number).buffer)[0]
