// Network namespaces as hosts: the lab's, the tests' and the benches'. Everything made here is taken back by name,
// also by a process that never ran the code that made it. Authority: ip-netns(8), veth(4).

import { type ChildProcess, execFileSync, type SpawnOptions, spawn } from 'node:child_process'

/** Runs a program to its end; throws with what it said on standard error. */
export function run(program: string, args: readonly string[], input?: string): string {
  return execFileSync(program, args, { encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe'], input: input ?? '' })
}

export class Namespace {
  readonly name: string

  private constructor(name: string) {
    this.name = name
  }

  /** A new host with its loopback up. Names are shared machine-wide: begin them with what only you use. */
  static create(name: string): Namespace {
    run('ip', ['netns', 'add', name])
    const made = new Namespace(name)
    made.ip('link set lo up')
    return made
  }

  /** Where setns(2) finds it. */
  get path(): string {
    return `/run/netns/${this.name}`
  }

  /** `ip` with these arguments, inside: `host.ip('addr add 10.0.0.1/24 dev lan0')`. */
  ip(args: string): string {
    return run('ip', ['-n', this.name, ...args.split(' ')])
  }

  /** A program run to its end inside; its standard output. */
  exec(program: string, ...args: string[]): string {
    return run('ip', ['netns', 'exec', this.name, program, ...args])
  }

  /** A program started inside. `ip netns exec` replaces itself by it, so the process id is the program's own. */
  spawn(program: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
    return spawn('ip', ['netns', 'exec', this.name, program, ...args], options)
  }

  /** Its interfaces go with it. Processes inside are the caller's to end first. */
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
