// The arguments of `natloom lab`: which scenario, through which gateway.

import { Argument, Command, InvalidArgumentError, Option } from 'commander'
import { DISPATCHES, type Dispatch, GATEWAYS, type GatewayKind } from './gateway/gateway-options.ts'
import { forward } from './scenarios/forward.ts'
import { ftp } from './scenarios/ftp.ts'
import type { Scenario } from './scenarios/scenario.ts'

const SCENARIOS: readonly Scenario[] = [forward, ftp]
const MOST_SHARDS = 64

export interface LabOptions {
  readonly scenario: Scenario
  readonly gateway: GatewayKind
  /** Undefined: the scenario's own number, or else natloom's default. */
  readonly workers?: number
  /** Undefined: natloom's default. */
  readonly dispatch?: Dispatch
}

function shards(text: string): number {
  const count = Number(text)
  if (Number.isInteger(count) && count >= 1 && count <= MOST_SHARDS) return count
  throw new InvalidArgumentError(`Allowed is a whole number from 1 to ${MOST_SHARDS}.`)
}

const scenariosText = (): string =>
  ['', 'scenarios:', ...SCENARIOS.map(({ name, summary }) => `  ${name.padEnd(10)} ${summary}`)].join('\n')

/**
 * Reads what follows `natloom lab`. Throws a CommanderError after the help was printed (exit code 0), or after it was
 * printed what is wrong.
 */
export function labOptions(argv: readonly string[]): LabOptions {
  const command = new Command('natloom lab')
    .description('a LAN, a gateway and an outside in network namespaces, with real traffic through them')
    .addArgument(
      new Argument('[scenario]', 'what is sent').choices(SCENARIOS.map(({ name }) => name)).default('forward'),
    )
    .addOption(new Option('--workers <number>', 'shards of the gateway, as NATLOOM_WORKERS').argParser(shards))
    .addOption(new Option('--dispatch <by>', 'what takes packets to shards, as NATLOOM_DISPATCH').choices(DISPATCHES))
    .addOption(
      new Option('--gateway <kind>', 'kernel: nft masquerade instead, to compare').choices(GATEWAYS).default('natloom'),
    )
    .allowExcessArguments(false)
    .addHelpText('after', scenariosText())
    .showHelpAfterError()
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'natloom lab: ')) })
    .parse(argv, { from: 'user' })
  const scenario = SCENARIOS.find(({ name }) => name === command.processedArgs[0]) as Scenario
  return { scenario, ...command.opts<Omit<LabOptions, 'scenario'>>() }
}
