// Checks of other people's rules on this host: those that get in natloom's way, and those whose way natloom gets in.

import { forwardChains } from '../../host/forward-chains.ts'
import { kernelNat } from '../../host/kernel-nat.ts'
import { HIGHEST_PORT, sharesAddress } from '../config.ts'
import { error, type HostCheck, warning } from './finding.ts'

/** Of many rules, so many are shown. */
const SHOWN = 12

/** The kernel's own source NAT may give out natloom's ports of an address that both share. */
export const foreignNat: HostCheck = (config, host) => {
  const { outside, nat } = config
  if (!sharesAddress(config) || nat.sharedWithKernelNat) return []
  const rules = kernelNat(host.ruleset(), outside, nat.ports)
  if (rules.length === 0) return []
  const { from, to } = nat.ports
  return [
    error(
      'GATEWAY_KERNEL_NAT',
      [
        `the kernel itself translates what leaves by ${outside.join(', ')}, and may take ports ` +
          `${from}-${to}, which are natloom's:`,
        ...rules.map(({ chain, handle, statement }) => `  ${chain}, handle ${handle}: ${statement}`),
      ].join('\n'),
      `give these rules other ports (masquerade to :${to + 1}-${HIGHEST_PORT}), remove them, or say ` +
        'nat.sharedWithKernelNat: true if they do no harm',
    ),
  ]
}

/**
 * Forward chains that would refuse what is natloom's now. Whoever writes rules of natloom's own has seen to it, so
 * nothing is said any more: `filter: [allow]` is enough.
 */
export const foreignForwardChains: HostCheck = ({ inside, outside, filter }, host) => {
  if (filter.length > 0) return []
  const own = host.natloomTables()
  return forwardChains(host.ruleset(), inside, outside, (table) => own.has(table)).map(
    ({ chain, policy, refusing }) => {
      const shown = refusing.slice(0, SHOWN)
      const rules = shown.map(({ chain, handle }) => {
        const text = host.ruleTexts(chain).get(handle)
        return `  ${chain}, handle ${handle}${text === undefined ? '' : `: ${text}`}`
      })
      const more = refusing.length > SHOWN ? [`  and ${refusing.length - SHOWN} more`] : []
      const remaining = policy === 'drop' ? ['  what none of its rules accepts, by its policy drop'] : []
      return warning(
        [
          `the chain ${chain} never meets what natloom forwards, so of that it no longer refuses:`,
          ...rules,
          ...more,
          ...remaining,
        ].join('\n'),
        'write under filter which flows may be opened (filter: [deny out tcp port 25]); ' +
          'filter: [allow] says that all may',
      )
    },
  )
}

/** nft doesn't list the rules of iptables-legacy, so nobody can say what is in them. */
export const legacyRules: HostCheck = ({ filter, nat }, host) => {
  const tables = host.legacyTables()
  const unseen = [
    ...(tables.includes('filter') && filter.length === 0 ? ['iptables-legacy -S FORWARD'] : []),
    ...(tables.includes('nat') && !nat.sharedWithKernelNat ? ['iptables-legacy -t nat -S POSTROUTING'] : []),
  ]
  if (unseen.length === 0) return []
  return [
    warning(
      `iptables-legacy has rules here (tables ${tables.join(', ')}), which are not in nft's listing and were not ` +
        'looked at: natloom never meets its forward chain, and its NAT may take natloom’s ports',
      `look yourself: ${unseen.join('; ')}`,
    ),
  ]
}
