// What `#faults` is in the product (package.json, imports): nothing. Under the condition `natloom-faults` it is
// test/faults/crash.ts, which crashes a worker at one of the points that each layer names (fault-points.ts in memory,
// conntrack, nat and datapath).

export function faultPoint(_point: string): void {}
