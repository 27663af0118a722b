// What is wrong with the text of a configuration file, said so that its reader finds the place: the line where a
// bracket was opened, not where the parser gave up; both lines of a key that is given twice. Authority: YAML 1.2.2; the
// parser is `yaml`.

import { type Document, type ErrorCode, isMap, isScalar, isSeq, Lexer, type LineCounter, type Node, visit } from 'yaml'
import { keyName, type Path, type Problem } from './problem.ts'

interface File {
  readonly name: string
  readonly text: string
  readonly lines: LineCounter
}

/** Most characters of a line that are repeated in a message. */
const MOST_SHOWN = 60

/** What to do about an error of the parser. */
const REMEDIES: Readonly<Partial<Record<ErrorCode, string>>> = {
  TAB_AS_INDENT: 'indent by spaces',
  BAD_INDENT: 'indent the keys of a section alike',
  MISSING_CHAR: 'write KEY: VALUE, with a space behind the colon',
  MULTILINE_IMPLICIT_KEY: 'write KEY: VALUE',
  BLOCK_AS_IMPLICIT_KEY: 'begin a new line, or put a text with a colon in it into quotes',
  MULTIPLE_DOCS: 'leave only one of them',
}
/** Where the parser's own words are for programmers. */
const WORDS: Readonly<Partial<Record<ErrorCode, string>>> = { MULTIPLE_DOCS: 'it has several documents' }

/** Why the text is no YAML, or no mapping of keys that each stand once; empty if it is. */
export function textProblems(document: Document, file: File): Problem[] {
  const { name, text, lines } = file
  const at = (offset: number, what: string): Problem[] => [{ where: `${name}:${lineAt(file, offset)}`, what }]
  const zero = text.indexOf('\0')
  if (zero >= 0) return at(zero, 'is no text: it has zero bytes; name a file of YAML')
  const [first] = [...document.errors, ...document.warnings].sort((a, b) => a.pos[0] - b.pos[0])
  if (first === undefined) return [...aliasesOfNothing(document, file), ...keyProblems(document.contents, [], file)]
  const open = unclosedBracket(text)
  if (open !== undefined) {
    const closing = text[open] === '[' ? ']' : '}'
    return at(open, `${text[open]} is not closed; write ${closing} behind its last element`)
  }
  const quote = first.message.includes('quote') ? openQuote(document, first.pos[0]) : undefined
  if (quote !== undefined) return at(quote, `${text[quote]} is not closed; write another one behind the text`)
  // What follows the first error follows from it, as a rule.
  const { line, col } = lines.linePos(first.pos[0])
  const shown = text.split('\n')[line - 1]!.trim()
  const words = (WORDS[first.code] ?? first.message).replace(/\s+/g, ' ')
  const remedy = REMEDIES[first.code]
  const what = [words, ...(shown === '' ? [] : [shown.slice(0, MOST_SHOWN)])].join(': ') + (remedy ? `; ${remedy}` : '')
  return [{ where: `${name}:${line}:${col}`, what: `is no YAML: ${what}` }]
}

/** Where the quoted text begins that goes on to an offset. */
function openQuote(document: Document, end: number): number | undefined {
  let begin: number | undefined
  visit(document, {
    Scalar(_, { range, type }) {
      if (range && range[0] < end && (type === 'QUOTE_DOUBLE' || type === 'QUOTE_SINGLE')) begin = range[0]
    },
  })
  return begin
}

function aliasesOfNothing(document: Document, file: File): Problem[] {
  const problems: Problem[] = []
  visit(document, {
    Alias(_, alias) {
      if (alias.resolve(document) !== undefined) return
      const where = `${file.name}:${lineAt(file, alias.range?.[0] ?? 0)}`
      problems.push({
        where,
        what: `*${alias.source} stands for nothing: no &${alias.source} is before it; write the value`,
      })
    },
  })
  return problems
}

const lineAt = ({ lines }: File, offset: number): number => lines.linePos(offset).line

/** The offset of the innermost bracket that is open where its collection must have ended. */
function unclosedBracket(text: string): number | undefined {
  const SCALAR = '\x1f'
  const FLOW_ERROR = '\x18'
  const MARKS = ['\x02', FLOW_ERROR, SCALAR, '\ufeff']
  const open: number[] = []
  let offset = 0
  let before = ''
  for (const lexeme of new Lexer().lex(text)) {
    if (lexeme === FLOW_ERROR) return open.at(-1)
    if (before !== SCALAR) {
      if (lexeme === '[' || lexeme === '{') open.push(offset)
      if (lexeme === ']' || lexeme === '}') open.pop()
    }
    if (!MARKS.includes(lexeme) || before === SCALAR) offset += lexeme.length
    before = lexeme
  }
  return open.at(-1)
}

/** Every key that its mapping has once more, and where it stood first; every key that is no word. */
function keyProblems(node: unknown, path: Path, file: File): Problem[] {
  if (isSeq(node)) return node.items.flatMap((item, i) => keyProblems(item, [...path, i], file))
  if (!isMap(node)) return []
  const lineOf = new Map<string, number>()
  return node.items.flatMap(({ key, value }) => {
    const line = lineAt(file, (key as Node | null)?.range?.[0] ?? 0)
    if (!isScalar(key) || key.value === null)
      return [{ where: `${file.name}:${line}`, what: 'a key is a word; write KEY: VALUE' }]
    const name = String(key.value)
    const below = keyProblems(value, [...path, name], file)
    const before = lineOf.get(name)
    lineOf.set(name, before ?? line)
    if (before === undefined) return below
    const where = `${file.name}:${line}: ${keyName([...path, name])}`
    return [{ where, what: `is given twice, in line ${before} first; leave one of them out` }, ...below]
  })
}
