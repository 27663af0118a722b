// Where natloom means to judge a segment otherwise than the kernel, as switches of the reference tracker
// (reference.ts): with none of them it is the kernel, with all of them it is natloom. Each is a rule with its authority
// in intended.ts. So what is meant is said once and exactly, and an intended difference explains no other one.

export const POLICIES = [
  'corrupted',
  'replies',
  'refusals',
  'own-reset',
  'synacks',
  'syns',
  'exact-resets',
  'resets-at-end',
  'closing-reset',
  'notes',
  'reopening',
  'outside',
] as const
export type Policy = (typeof POLICIES)[number]

export const THE_KERNELS: ReadonlySet<Policy> = new Set()
export const NATLOOMS: ReadonlySet<Policy> = new Set(POLICIES)
