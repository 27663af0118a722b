// What `#faults` is in the product (package.json, imports): nothing. Under the condition `natloom-faults` it is
// test/faults/crash.ts, which crashes a worker at a point of fault-points.ts.

import type { FaultPoint } from './fault-points.ts'

export function fault(_point: FaultPoint): void {}
