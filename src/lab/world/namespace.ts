// Network namespaces as hosts of the lab, the tests and the benches. All that is made here can be removed by its name,
// also by another process. Authority: ip-netns(8), veth(4).

import { type ChildProcess, execFileSync, type SpawnOptions, spawn } from 'node:child_process'

/** Runs a program to its end and returns its standard output. An error has its standard error. */
export function run(program: string, args: readonly string[], input?: string): string {
  return execFileSync(program, args, { encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe'], input: input ?? '' })
}

export class Namespace {
  readonly name: string

  private constructor(name: string) {
    this.name = name
  }

  /** Makes a host with its loopback up. Names are the machine's: begin them with something unique to the caller. */
  static create(name: string): Namespace {
    run('ip', ['netns', 'add', name])
    const made = new Namespace(name)
    made.ip('link set lo up')
    return made
  }

  /** The file that setns(2) takes. */
  get path(): string {
    return `/run/netns/${this.name}`
  }

  /** Runs `ip` inside: `host.ip('addr add 10.0.0.1/24 dev lan0')`. */
  ip(args: string): string {
    return run('ip', ['-n', this.name, ...args.split(' ')])
  }

  /** Runs a program inside to its end; returns its standard output. */
  exec(program: string, ...args: string[]): string {
    return run('ip', ['netns', 'exec', this.name, program, ...args])
  }

  /** Starts a program inside. `ip netns exec` replaces itself by the program, so the process id is the program's. */
  spawn(program: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
    return spawn('ip', ['netns', 'exec', this.name, program, ...args], options)
  }

  /** Removes the host with its interfaces. The caller has ended the processes inside. */
  delete(): void {
    run('ip', ['netns', 'delete', this.name])
  }
}

/** A cable between two hosts. */
export function veth(a: Namespace, interfaceA: string, b: Namespace, interfaceB: string): void {
  run('ip', ['link', 'add', interfaceA, 'netns', a.name, 'type', 'veth', 'peer', 'name', interfaceB, 'netns', b.name])
  a.ip(`link set ${interfaceA} up`)
  b.ip(`link set ${interfaceB} up`)
}
