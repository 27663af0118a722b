// Unit files share a process, one after the other, because starting one takes longer than most of them do
// (vitest.config.ts, `isolate`). Each finds what a new process would have: no module of natloom's is evaluated, none is
// replaced, and no memory is attached to the thread. What else belongs to a process, a test puts back itself.

import { vi } from 'vitest'

vi.doUnmock('#faults')
vi.resetModules()
Reflect.deleteProperty(globalThis, Symbol.for('natloom.attached'))
