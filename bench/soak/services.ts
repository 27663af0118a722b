// What hosts inside ask for, and how much of it: contract between the hosts (inside-hosts.ts) and the servers outside
// (servers.ts).

/** TCP but for names. */
export const PORTS = { web: 80, downloads: 8081, names: 53, ftp: 21 } as const
export const PAGE_BYTES = 20_000
/** Sent in pieces, over some seconds. */
export const DOWNLOAD_BYTES = 2_000_000
export const FILE_BYTES = 50_000

export interface Outcome {
  readonly tried: number
  readonly succeeded: number
  readonly failures: Readonly<Record<string, number>>
}
