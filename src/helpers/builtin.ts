// The helpers that natloom has, by name. FTP is on unless the configuration says otherwise, the others off.

import { ftp } from './ftp.ts'
import type { Helper } from './helper.ts'
import { irc } from './irc.ts'
import { tftp } from './tftp.ts'

type Options = Readonly<Record<string, unknown>>

/** Each throws an Error that names an option it doesn't know, or that isn't yes or no. */
export const BUILTIN: Readonly<Record<string, (options?: Options) => Helper>> = {
  ftp: (options) => ftp(switches('ftp', options, ['loose', 'privileged'])) as Helper,
  irc: (options) => irc(switches('irc', options, ['privileged'])) as Helper,
  tftp: (options) => {
    switches('tftp', options, [])
    return tftp()
  },
}

/** Options that are true or false. */
function switches(helper: string, options: Options = {}, known: readonly string[]): Readonly<Record<string, boolean>> {
  for (const [name, value] of Object.entries(options)) {
    if (!known.includes(name)) {
      const list = known.length === 0 ? 'none' : known.join(', ')
      throw new Error(`the helper ${helper} has no option ${JSON.stringify(name)}; allowed: ${list}`)
    }
    if (typeof value !== 'boolean')
      throw new Error(`option ${name} is ${JSON.stringify(value)}, which is not allowed; allowed: true, false`)
  }
  return options as Readonly<Record<string, boolean>>
}
