// What the file and the environment say, as one tree, and where each value of it was written: an error names the line
// or the variable that its reader has to change.

import { readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { isMap, isScalar, LineCounter, type Node, parseDocument } from 'yaml'
import { CONFIG_VARIABLE, isVariable, VARIABLES } from './keys.ts'
import { nearest } from './nearest.ts'
import { ELEMENT_SHORTHANDS, SHORTHANDS } from './schema.ts'

export const DEFAULT_FILE = '/etc/natloom/natloom.yaml'

/** Something that a person has to change, and where. */
export interface Problem {
  /** `natloom.yaml:4: nat.blockSize`, or a variable's name. */
  readonly where: string
  readonly what: string
}

export type Path = readonly PropertyKey[]
export type Tree = { [name: string]: unknown }

export interface Sources {
  /** What was set, still unchecked. */
  readonly tree: Tree
  readonly problems: readonly Problem[]
  /** Whose paths are relative to it: the file's folder, or the working directory for what a variable says. */
  folder(path: Path): string
  /** False if the file could not be read: what is missing from the tree may stand in it. */
  readonly complete: boolean
  /** The variable, or file and line, that set the value at a path; undefined for what nobody set. */
  origin(path: Path): string | undefined
}

export interface SourceOptions {
  /** As given by `--config`; without it NATLOOM_CONFIG, then the default file if there is one. */
  readonly file?: string | undefined
  readonly env: Readonly<Record<string, string | undefined>>
}

const isTree = (value: unknown): value is Tree => typeof value === 'object' && value !== null && !Array.isArray(value)

export const keyName = (path: Path): string =>
  path.map((part, i) => (typeof part === 'number' ? `[${part}]` : i === 0 ? String(part) : `.${String(part)}`)).join('')

export function valueAt(tree: Tree, path: Path): unknown {
  let value: unknown = tree
  for (const part of path) value = (value as Record<PropertyKey, unknown> | null | undefined)?.[part]
  return value
}

interface FileSource {
  readonly tree: Tree
  readonly problems: readonly Problem[]
  /** File and line in which a path, or the nearest above it that is there, was written. */
  line(path: Path): string
}

const NO_FILE: FileSource = { tree: {}, problems: [], line: () => '' }

function readFile(file: string | undefined): FileSource {
  const name = file ?? DEFAULT_FILE
  try {
    return parseFile(name, readFileSync(name, 'utf8'))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === undefined) throw error
    if (code === 'ENOENT' && file === undefined) return NO_FILE
    return { ...NO_FILE, problems: [{ where: name, what: `can't be read: ${code}` }] }
  }
}

function parseFile(name: string, text: string): FileSource {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  const at = (offset: number) => `${name}:${lines.linePos(offset).line}`
  const problems = [...document.errors, ...document.warnings].map(({ pos, message }) => ({
    where: at(pos[0]),
    what: message,
  }))
  if (problems.length > 0) return { ...NO_FILE, problems }
  const tree: unknown = document.toJS() ?? {}
  if (!isTree(tree)) {
    const what = `${JSON.stringify(tree)} is not allowed; allowed: a mapping of keys to values`
    return { ...NO_FILE, problems: [{ where: at(0), what }] }
  }
  return {
    tree: expandShorthands(withoutNulls(tree)),
    problems,
    line: (path) => at(offsetOf(document.contents, path)),
  }
}

/** A key without a value counts as not set: so stands a section in the file whose keys are all commented out. */
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

/** Where the last part of the path that exists begins: a key in a mapping, an element in a list. */
function offsetOf(contents: Node | null, path: Path): number {
  let node: unknown = contents
  let offset = 0
  for (const part of path) {
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && key.value === part)
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

/** The environment wins over the file, key by key. An empty variable counts as not set, as compose files write it. */
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

  /** The variable that set the value, the list around it, or something in it. */
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

/** A section that the file wrote as something else stays as it is, for the check to refuse. */
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
