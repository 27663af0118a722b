import { describe, expect, it } from 'vitest'
import { missingCapabilities, missingTools } from '../../src/host/rights.ts'

describe('rights', () => {
  const status = (effective: string) =>
    `Name:\tnode\nCapInh:\t0000000000000000\nCapEff:\t${effective}\nCapBnd:\t000001ffffffffff\n`

  it('are read from the effective capabilities', () => {
    expect(missingCapabilities(status('000001ffffffffff'))).toEqual([])
    expect(missingCapabilities(status('0000000000003000'))).toEqual([])
    expect(missingCapabilities(status('0000000000001000'))).toEqual(['CAP_NET_RAW'])
    expect(missingCapabilities(status('0000000000000000'))).toEqual(['CAP_NET_ADMIN', 'CAP_NET_RAW'])
  })

  it('name the package of a program that is not there', () => {
    expect(missingTools()).toEqual([])
    expect(missingTools('/nonexistent')).toEqual([{ tool: 'nft', package: 'nftables' }])
  })
})
