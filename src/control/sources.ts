// Reads the configuration file and the environment into one tree, and remembers which line or variable has set each
// value: an error names the one that its reader has to change.

import { readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { type Document, isMap, isScalar, LineCounter, type Node, parseDocument } from 'yaml'
import { CONFIG_VARIABLE, isVariable, VARIABLES } from './keys.ts'
import { nearest } from './nearest.ts'
import { FILE_ERRORS, keyName, type Path, type Problem, shown } from './problem.ts'
import { ELEMENT_SHORTHANDS, SHORTHANDS } from './schema.ts'
import { textProblems } from './yaml-problems.ts'

export const DEFAULT_FILE = '/etc/natloom/natloom.yaml'

export type Tree = { [name: string]: unknown }

export interface Sources {
  /** The values that were set, not checked yet. */
  readonly tree: Tree
  readonly problems: readonly Problem[]
  /** What paths in the value are relative to: the file's folder or, for a value set by a variable, `.`. */
  folder(path: Path): string
  /** False if the file could not be read: it may set what is missing from the tree. */
  readonly complete: boolean
  /** The variable, or the file and line, that has set the value at a path; undefined for a default. */
  origin(path: Path): string | undefined
}

export interface SourceOptions {
  /**
   * The argument of `--config`. Without it NATLOOM_CONFIG names the file, else it is the default file if that exists.
   */
  readonly file?: string | undefined
  readonly env: Readonly<Record<string, string | undefined>>
}

const isTree = (value: unknown): value is Tree => typeof value === 'object' && value !== null && !Array.isArray(value)

export function valueAt(tree: Tree, path: Path): unknown {
  let value: unknown = tree
  for (const part of path) value = (value as Record<PropertyKey, unknown> | null | undefined)?.[part]
  return value
}

interface FileSource {
  readonly tree: Tree
  readonly problems: readonly Problem[]
  /** File and line of the value at a path or, if it isn't there, of the nearest section above it. */
  line(path: Path): string
}

const NO_FILE: FileSource = { tree: {}, problems: [], line: () => '' }

/** What to do about a file that can't be read, for some reasons. */
const REMEDIES: Readonly<Record<string, string>> = {
  ENOENT: 'write it, or name another one by --config or NATLOOM_CONFIG',
  EISDIR: 'name the file in it',
  EACCES: 'be the user that the gateway runs as, or let this one read it',
}

function readFile(file: string | undefined): FileSource {
  const name = file ?? DEFAULT_FILE
  if (name === '') return refusedFile('--config', '"" names no file; name one, or leave --config out')
  try {
    return parseFile(name, new TextDecoder('utf8', { fatal: true }).decode(readFileSync(name)))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ERR_ENCODING_INVALID_ENCODED_DATA')
      return refusedFile(name, 'is no text: its bytes are not UTF-8; name a file of YAML, or save it as UTF-8')
    if (code === undefined) throw error
    if (code === 'ENOENT' && file === undefined) return NO_FILE
    const remedy = REMEDIES[code] ?? 'name another one by --config or NATLOOM_CONFIG'
    return refusedFile(name, `can't be read: ${FILE_ERRORS[code] ?? code}; ${remedy}`)
  }
}

const refusedFile = (where: string, what: string): FileSource => ({ ...NO_FILE, problems: [{ where, what }] })

function parseFile(name: string, text: string): FileSource {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: false })
  const problems = textProblems(document, { name, text, lines })
  if (problems.length > 0) return { ...NO_FILE, problems }
  const tree = documentValue(document)
  if (tree === undefined) return refusedFile(name, 'its aliases (*NAME) multiply beyond reason; write the values out')
  if (!isTree(tree))
    return refusedFile(`${name}:1`, `${shown(tree)} is not allowed; allowed: keys with values, such as inside: [lan0]`)
  return {
    tree: expandShorthands(withoutNulls(tree)),
    problems,
    line: (path) => `${name}:${lines.linePos(offsetOf(document.contents, path)).line}`,
  }
}

/** An empty file sets nothing. Undefined if its aliases make more of it than is sound. */
function documentValue(document: Document): unknown {
  try {
    return document.toJS() ?? {}
  } catch {
    return undefined
  }
}

/** A key without a value counts as not set: a section whose keys are all commented out is such a key. */
function withoutNulls(tree: Tree): Tree {
  const set = Object.entries(tree).filter(([, value]) => value !== null)
  return Object.fromEntries(set.map(([name, value]) => [name, isTree(value) ? withoutNulls(value) : value]))
}

function expandShorthands(tree: Tree): Tree {
  const expanded = Object.entries(tree).map(([name, value]) => {
    const word = SHORTHANDS[name]
    const element = ELEMENT_SHORTHANDS[name]
    if (element !== undefined && Array.isArray(value))
      return [name, value.map((each) => (typeof each === 'string' ? element(each) : each))]
    return [name, word !== undefined && typeof value === 'string' ? { [word]: value } : value]
  })
  return Object.fromEntries(expanded)
}

/** The offset of the last part of the path that exists: a key in a mapping, an element in a list. */
function offsetOf(contents: Node | null, path: Path): number {
  let node: unknown = contents
  let offset = 0
  for (const part of path) {
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === part)
      if (!pair) break
      offset = (pair.key as Node).range?.[0] ?? offset
      node = pair.value
    } else {
      const element = (node as { items?: Node[] } | null)?.items?.[Number(part)]
      if (!element) break
      offset = element.range?.[0] ?? offset
      node = element
    }
  }
  return offset
}

/** The environment wins over the file, key by key. An empty variable counts as not set: compose files write it so. */
export function readSources({ file, env }: SourceOptions): Sources {
  const named = file ?? (env[CONFIG_VARIABLE] || undefined)
  const source = readFile(named)
  const problems = [...source.problems]
  const variables = new Map<string, string>()
  const tree = structuredClone(source.tree)

  for (const { path, variable, read } of VARIABLES) {
    const text = env[variable]
    if (text === undefined || text === '') continue
    put(tree, path, read(text))
    variables.set(keyName(path), variable)
  }
  const known = [CONFIG_VARIABLE, ...VARIABLES.map(({ variable }) => variable)]
  for (const name of Object.keys(env).sort()) {
    if (isVariable(name) && !known.includes(name))
      problems.push({ where: name, what: `no such variable; the nearest is ${nearest(name, known, (known) => known)}` })
  }

  /** The variable that has set the value, a list that contains it, or a part of it. */
  const variableAt = (path: Path): string | undefined => {
    const name = keyName(path)
    for (const [key, variable] of variables)
      if (key === name || name.startsWith(`${key}[`) || key.startsWith(`${name}.`)) return variable
    return undefined
  }
  return {
    tree,
    problems,
    folder: (path) => (variableAt(path) === undefined ? dirname(named ?? DEFAULT_FILE) : '.'),
    complete: source.problems.length === 0,
    origin: (path) => variableAt(path) ?? (valueAt(source.tree, path) === undefined ? undefined : source.line(path)),
  }
}

/** If the file has something else in place of a section, it stays: the check refuses it. */
function put(tree: Tree, path: readonly string[], value: unknown): void {
  let section = tree
  for (const name of path.slice(0, -1)) {
    section[name] ??= {}
    const next = section[name]
    if (!isTree(next)) return
    section = next
  }
  section[path.at(-1) as string] = value
}
