// A gateway for tests (datapath/gateway.ts) in which one helper reads, and what it does is noted.

import type { Helper } from '../../src/helpers/helper.ts'
import { Gateway } from '../datapath/gateway.ts'
import { forwardTo, HelpedGateway, type Inside, PORTS } from './gateway-script.ts'

export type TestGateway = Gateway

export async function helpedGateway(helper: Helper, inside: Inside = 'client'): Promise<HelpedGateway<Gateway>> {
  const gateway = await Gateway.start({
    ports: PORTS,
    nat: { preservePorts: true, parity: false },
    forwards: inside === 'server' ? [forwardTo(helper)] : [],
  })
  const helped = new HelpedGateway(gateway, helper, inside)
  await gateway.help(helped.spied())
  return helped
}
