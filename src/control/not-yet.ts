// Options of conntrack(8) that people will try on `natloom conntrack` and `natloom expect`, and that are not there yet:
// each is refused with what to do instead, rather than as unknown. None is listed by --help.

import { type Command, Option } from 'commander'
import { EXIT } from './exit-codes.ts'

class NotYetError extends Error {
  override readonly name = 'NotYetError'
  readonly code = 'NOT_YET'
  readonly exitCode = EXIT.configuration
}

const WORDS = 'pick lines of the list, such as by grep, or by jq from -o json'

/** By what they would do: flags, and what to do instead of them. */
const OPTIONS: readonly (readonly [flags: string, instead: string])[] = [
  ['-D, --delete', 'they end by their timeouts, or all of them with the gateway'],
  ['-F, --flush', 'they end by their timeouts, or all of them with the gateway'],
  ['-I, --create', 'they begin with their first packet'],
  ['-U, --update', 'they change with their packets alone'],
  ['-E, --event', 'list again, or follow the metrics'],
  ['-G, --get', WORDS],
  ['-C, --count', 'count lines of the list by wc -l, or read the metrics'],
  ['-S, --stats', 'read the metrics (curl http://127.0.0.1:9464/metrics)'],
  ['-p, --proto [protocol]', WORDS],
  ['-s, --src, --orig-src [address]', WORDS],
  ['-d, --dst, --orig-dst [address]', WORDS],
  ['-r, --reply-src [address]', WORDS],
  ['-q, --reply-dst [address]', WORDS],
  ['--sport [port]', WORDS],
  ['--dport [port]', WORDS],
  ['--state [state]', WORDS],
  ['-f, --family [family]', 'leave it out: all is IPv4'],
]

/** Adds them to a command, which throws NotYetError when one is used. */
export function refuseNotYet(command: Command): Command {
  for (const [flags, instead] of OPTIONS)
    for (const each of aliasesOf(flags)) {
      const option = new Option(each).hideHelp()
      command.addOption(option)
      command.on(`option:${option.name()}`, () => {
        const name = (option.short ?? option.long) as string
        throw new NotYetError(`${command.name()} ${name} is not there yet; instead: ${instead}`)
      })
    }
  return command
}

/** Commander takes a short and a long name; every further long name is an option of its own. */
function aliasesOf(flags: string): string[] {
  const [, names = '', value = ''] = /^(.*?)( \[.*)?$/.exec(flags) as RegExpExecArray
  const [first = '', second, ...more] = names.split(', ')
  return [second === undefined ? first : `${first}, ${second}`, ...more].map((each) => each + value)
}
