#!/usr/bin/env node
// The command line. Each command loads only the modules that it needs: `check` works where packet sockets can't be
// opened, `lab` loads no gateway.

import type { Writable } from 'node:stream'
import { Command, CommanderError, Option } from 'commander'
import { version } from '../metrics/version.ts'
import { apiSocket } from './api-client.ts'
import { effectiveConfig, hostReport } from './check-command.ts'
import { loadConfig, tryHelpers } from './config.ts'
import { listConnections, OUTPUTS, type Output } from './conntrack-command.ts'
import { listDrops } from './drops-command.ts'
import { explain } from './errors.ts'
import { EXIT } from './exit-codes.ts'
import { listExpectations } from './expect-command.ts'
import { type LoadOptions, listHelpers, load, unload } from './helper-command.ts'
import { listHosts } from './hosts-command.ts'
import { jsonSchema } from './json-schema.ts'
import { createLog, logProcess } from './log.ts'
import { refuseNotYet } from './not-yet.ts'
import { DEFAULT_OUTSIDE, type ReplayArguments, replayCapture } from './replay-command.ts'
import { run } from './run-command.ts'
import { DEFAULT_FILE } from './sources.ts'

interface ConfigOption {
  readonly config?: string
}

const CONFIG = [
  '-c, --config <file>',
  `configuration file (else NATLOOM_CONFIG, else ${DEFAULT_FILE} if it exists)`,
] as const

async function runGateway({ config: file }: ConfigOption): Promise<number> {
  const { config, notices } = loadConfig({ file, env: process.env })
  const [{ Gateway }, { exitAtOnce }, { ServiceManager }] = await Promise.all([
    import('../coordinator/gateway.ts'),
    import('../coordinator/exit-at-once.ts'),
    import('../coordinator/service-manager.ts'),
  ])
  const log = createLog(config.log)
  for (const notice of notices) log.warn(notice)
  logProcess(log, exitAtOnce)
  try {
    return await run({
      config,
      log,
      begin: (config, log) => new Gateway(config, log),
      manager: new ServiceManager(process.env),
      signals: process,
      now: () => performance.now(),
      exit: exitAtOnce,
    })
  } catch (error) {
    // A silent log doesn't hide why nothing runs.
    if (!log.isLevelEnabled('fatal')) throw error
    const { text, exitCode } = explain(error)
    log.fatal(text)
    return exitCode
  }
}

interface CheckOptions extends ConfigOption {
  readonly schema?: true
  readonly host?: true
  readonly output: Output
}

async function check({ config: file, schema, host, output }: CheckOptions): Promise<number> {
  if (host) {
    const { config } = loadConfig({ file, env: process.env })
    const { factsFor, findingsOf } = await import('../coordinator/host-checks/checks.ts')
    const { text, exitCode } = hostReport(findingsOf(config, factsFor(config)), output)
    process.stdout.write(`${text}\n`)
    return exitCode
  }
  if (schema) {
    process.stdout.write(`${JSON.stringify(jsonSchema(), null, 2)}\n`)
    return EXIT.ok
  }
  const loaded = loadConfig({ file, env: process.env })
  await tryHelpers(loaded)
  process.stdout.write(effectiveConfig(loaded, output))
  for (const notice of loaded.notices) process.stderr.write(`natloom: note: ${notice}\n`)
  return EXIT.ok
}

interface GatewayOptions extends ConfigOption {
  readonly socket?: string
}
interface ListOptions extends GatewayOptions {
  readonly output: Output
}

/** Asks the running gateway and writes its answer to standard output. */
async function ask(
  { config: file, socket }: GatewayOptions,
  question: (socket: string, to: Writable) => Promise<void>,
): Promise<number> {
  // In `natloom conntrack -L | head` the reader closes the pipe when it has seen enough.
  process.stdout.once('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(EXIT.ok)
    throw error
  })
  await question(apiSocket({ file, env: process.env }, socket), process.stdout)
  return EXIT.ok
}

const SOCKET = ['--socket <path>', "the gateway's API (else api.socket of the configuration)"] as const
const outputOption = () => new Option('-o, --output <format>', 'how').choices(OUTPUTS).default('text')
const several = (value: string, before: readonly string[] = []): readonly string[] => [...before, ...value.split(',')]

async function runLab(args: string[]): Promise<number> {
  const { lab } = await import('../lab/lab.ts')
  return lab(args)
}

async function main(argv: readonly string[]): Promise<number> {
  let exitCode: number = EXIT.ok
  const program = new Command('natloom')
    .description('NAT gateway for Linux. Each configuration key is an environment variable too: NATLOOM_INSIDE=lan0')
    .version(version)
    .showHelpAfterError()
    .enablePositionalOptions()
    .exitOverride()
  program
    .command('run')
    .description('forward and translate until SIGTERM or SIGINT')
    .option(...CONFIG)
    .action(async (options: ConfigOption) => {
      exitCode = await runGateway(options)
    })
  program
    .command('check')
    .description('check the configuration and print it as it is in force')
    .option(...CONFIG)
    .option('--schema', "print the configuration's JSON schema instead")
    .option('--host', 'look at this host instead: what keeps run from starting, what may surprise, what mends it')
    .addOption(outputOption())
    .action(async (options: CheckOptions) => {
      exitCode = await check(options)
    })
  refuseNotYet(program.command('conntrack'))
    .description('the connections of a running gateway')
    .option(
      '-L, --dump',
      'list them, as /proc/net/nf_conntrack does, with the shard that has each; what it does anyway',
    )
    .addOption(outputOption())
    .option(...SOCKET)
    .option(...CONFIG)
    .action(async (options: ListOptions) => {
      exitCode = await ask(options, (socket, to) => listConnections(socket, options.output, to))
    })
  refuseNotYet(program.command('expect'))
    .description('what a running gateway expects: connections that helpers have announced')
    .option(
      '-L, --dump',
      'list them, as /proc/net/nf_conntrack_expect does, with who announced each; what it does anyway',
    )
    .addOption(outputOption())
    .option(...SOCKET)
    .option(...CONFIG)
    .action(async (options: ListOptions) => {
      exitCode = await ask(options, (socket, to) => listExpectations(socket, options.output, to))
    })
  program
    .command('hosts')
    .description('the inside hosts of a running gateway: who has how much of what one host may have')
    .addOption(outputOption())
    .option(...SOCKET)
    .option(...CONFIG)
    .action(async (options: ListOptions) => {
      exitCode = await ask(options, (socket, to) => listHosts(socket, options.output, to))
    })
  program
    .command('drops')
    .description('what a running gateway has dropped: by interface and reason, and whose it was lately')
    .addOption(outputOption())
    .option(...SOCKET)
    .option(...CONFIG)
    .action(async (options: ListOptions) => {
      exitCode = await ask(options, (socket, to) => listDrops(socket, options.output, to))
    })
  const helper = program.command('helper').description('the helpers of a running gateway')
  helper
    .command('list')
    .description('those in force')
    .addOption(outputOption())
    .option(...SOCKET)
    .option(...CONFIG)
    .action(async (options: ListOptions) => {
      exitCode = await ask(options, (socket, to) => listHelpers(socket, options.output, to))
    })
  helper
    .command('load')
    .description('let a helper read the connections that begin from now on')
    .argument('<module>', "a built-in helper's name, or the path of a module: ./my-helper.js")
    .option('--port <port>', "a server's port, instead of the helper's own; may be given again", several)
    .option('--server <address>', 'only servers of this address or prefix; may be given again', several)
    .option('--options <json>', "the helper's own options")
    .option('--on-failure <reset|pass>', 'what onHelperFailure is for this helper')
    .option(...SOCKET)
    .option(...CONFIG)
    .action(async (module: string, options: GatewayOptions & LoadOptions) => {
      exitCode = await ask(options, (socket, to) => load(socket, module, options, to))
    })
  helper
    .command('unload')
    .description('take a helper away; its connections go on, what it expects vanishes')
    .argument('<name>', 'as `natloom helper list` has it')
    .option(...SOCKET)
    .option(...CONFIG)
    .action(async (name: string, options: GatewayOptions) => {
      exitCode = await ask(options, (socket, to) => unload(socket, name, to))
    })
  program
    .command('replay')
    .description('a capture, as seen inside, through the same datapath in virtual time; needs no privileges')
    .argument('<capture>', 'pcap or pcapng')
    .option('--inside <prefix>', 'who is inside; may be given again (default: RFC 1918 and the first sender)', several)
    .option('--outside-address <address>', "the gateway's", DEFAULT_OUTSIDE)
    .option('--no-nat', 'only track, translate nothing')
    .option('--helper <name>', 'a helper in force, NAME or NAME=PORT; may be given again (default: ftp)', several)
    .option('--filter <rule>', 'a rule of the filter, such as "deny out tcp port 25"; may be given again', several)
    .option('--workers <number>', 'shards', '1')
    .option('--out-inside <file>', 'what was sent to the inside, as pcap')
    .option('--out-outside <file>', 'what was sent to the outside, as pcap')
    .option('--events <file>', 'what happened, a line of JSON each; - for standard output')
    .option('--events-packets', 'a line for each packet, too')
    .option('--no-complete-checksums', 'leave checksums that the capturing host had left to its network card')
    .action(async (capture: string, options: ReplayArguments) => {
      exitCode = await replayCapture(capture, options, (text) => process.stderr.write(`${text}\n`))
    })
  program
    .command('lab')
    .description('a LAN, a gateway and an outside in network namespaces, with real traffic through them')
    .argument('[args...]', 'a scenario and its options: see natloom lab --help')
    .helpOption(false)
    .passThroughOptions()
    .allowUnknownOption()
    .action(async (args: string[]) => {
      exitCode = await runLab(args)
    })
  try {
    await program.parseAsync(argv)
  } catch (error) {
    // Commander has printed what is wrong. After printing help or the version it throws an error of exit code 0.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.configuration
    const { text, exitCode: failed } = explain(error)
    process.stderr.write(`${text}\n`)
    return failed
  }
  return exitCode
}

process.exit(await main(process.argv))
