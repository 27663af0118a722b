// The code of docs/helper-tutorial.md, as a reader who copies it has it. The text of the page is given, so that a test
// can take the page of the package.

const BLOCK = /^```(js|ts|sh)\n(.*?)^```$/gms

export interface Tutorial {
  /** Its modules of JavaScript, by the file's name, with which each begins: `// parcel.js: ...`. */
  readonly modules: Readonly<Record<string, string>>
  /** parcel.js in TypeScript: the lines that the page gives take the place of those that they are another form of. */
  readonly inTypeScript: string
  /** The commands that it tells, a line each. */
  readonly commands: readonly string[]
}

export function tutorialOf(page: string): Tutorial {
  const blocks = [...page.matchAll(BLOCK)].map(([, language, code]) => ({ language, code: code! }))
  const codeIn = (language: string) => blocks.filter((each) => each.language === language).map(({ code }) => code)
  const modules = Object.fromEntries(codeIn('js').map((code) => [/^\/\/ ([a-z.]+)/.exec(code)![1]!, code]))
  return {
    modules,
    inTypeScript: typed(modules['parcel.js']!, codeIn('ts').join('')),
    commands: codeIn('sh').flatMap((code) => code.trim().split('\n')),
  }
}

function typed(code: string, lines: string): string {
  const [types, object, exported, ...functions] = lines
    .split(/^(?=const |export |function )/m)
    .map((line) => line.trimEnd())
  let text = code.replace('export default {', () => object!)
  for (const each of functions) {
    const beginning = each.slice(0, each.indexOf('(') + 1)
    text = text
      .split('\n')
      .map((line) => (line.startsWith(beginning) ? each : line))
      .join('\n')
  }
  return `${types}\n\n${text}\n${exported}\n`
}
