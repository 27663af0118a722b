// Parses where a server listens: `127.0.0.1:9464`, `[::1]:9464`, `0.0.0.0:9464`. Host names are not allowed, because
// the address that a name stands for may change between the check and the start.

import { isIPv4, isIPv6 } from 'node:net'

export interface ListenAddress {
  readonly host: string
  /** 0 lets the kernel choose. */
  readonly port: number
}

/** Undefined if the text is no address:port. */
export function parseListen(text: string): ListenAddress | undefined {
  const [, v6, v4, digits] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text) ?? []
  const port = Number(digits)
  if (!(port <= 65535)) return undefined
  if (v6 !== undefined) return isIPv6(v6) ? { host: v6, port } : undefined
  return v4 !== undefined && isIPv4(v4) ? { host: v4, port } : undefined
}
