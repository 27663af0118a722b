// What `#faults` is in the product (package.json, imports): nothing. Under the condition `natloom-faults` it is
// test/faults/crash.ts, which crashes a worker at one of the points that each layer names (fault-points.ts in memory,
// conntrack, nat and datapath).

/** Whether this thread is to crash at some point: then it isn't warmed up, which would pass thousands of them. */
export const isToCrash: boolean = false

export function faultPoint(_point: string): void {}
