// Sequence numbers wrap at 2^32 (RFC 9293 3.4), and are compared by the sign of their difference.

export const before = (a: number, b: number): boolean => ((a - b) | 0) < 0
export const least = (a: number, b: number): number => (before(a, b) ? a : b)
export const most = (a: number, b: number): number => (before(a, b) ? b : a)
