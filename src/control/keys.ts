// Every key that can be set, with the environment variable that sets it. The variable is derived, never listed:
// `nat.blockSize` is NATLOOM_NAT_BLOCK_SIZE. A section with a shorthand has one too: NATLOOM_IO sets `io.driver`.

import { plainSchema, type SchemaNode } from './json-schema.ts'
import { ELEMENT_SHORTHANDS, SHORTHANDS } from './schema.ts'

type Path = readonly PropertyKey[]

export interface Key {
  readonly path: readonly string[]
  readonly variable: string
  /**
   * The value that a variable's text stands for. Text that is no such value is returned as it is: the check refuses it.
   */
  readonly read: (text: string) => unknown
}

const PREFIX = 'NATLOOM_'

/** `['nat', 'blockSize']` to `NATLOOM_NAT_BLOCK_SIZE`. */
const variableOf = (path: readonly string[]): string =>
  PREFIX + path.map((name) => name.replace(/[A-Z]/g, '_$&').toUpperCase()).join('_')

const readNumber = (text: string): unknown => (/^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text)
const readFlag = (text: string): unknown => (text === 'true' ? true : text === 'false' ? false : text)
const readText = (text: string): unknown => text

function reader(node: SchemaNode, name: string | undefined): (text: string) => unknown {
  if (node.type === 'integer') return readNumber
  if (node.type === 'boolean') return readFlag
  if (node.type !== 'array') return readText
  const element = ELEMENT_SHORTHANDS[name ?? ''] ?? elementReader(node.items)
  return (text) =>
    text
      .split(',')
      .map((part) => part.trim())
      .filter((part) => part !== '')
      .map(element)
}

/** In a variable, an element that is a mapping is its values in the schema's order: `tcp :21 10.0.0.5:21`. */
function elementReader(items: SchemaNode | undefined): (text: string) => unknown {
  const names = Object.keys(items?.properties ?? {})
  if (names.length === 0) return items?.type === 'string' ? readText : readNumber
  return (text) => {
    const words = text.split(/\s+/)
    return words.length === names.length ? Object.fromEntries(names.map((name, i) => [name, words[i]])) : text
  }
}

function keysBelow(node: SchemaNode, path: readonly string[]): Key[] {
  if (!node.properties) return [{ path, variable: variableOf(path), read: reader(node, path.at(-1)) }]
  return Object.entries(node.properties).flatMap(([name, child]) => keysBelow(child, [...path, name]))
}

export const KEYS: readonly Key[] = keysBelow(plainSchema(), [])

/** The keys that a section, or a mapping in a list, may have. */
export function namesAt(section: Path): string[] {
  let node: SchemaNode | undefined = plainSchema()
  for (const part of section)
    node = typeof part === 'number' ? mappingOf(node?.items) : node?.properties?.[part as string]
  return Object.keys(node?.properties ?? {})
}

const mappingOf = (node: SchemaNode | undefined): SchemaNode | undefined =>
  node?.anyOf?.find(({ properties }) => properties) ?? node

/** Shorthands come first, so that the key's own variable wins if both are set. */
export const VARIABLES: readonly Key[] = [
  ...Object.entries(SHORTHANDS).map(([name, word]) => ({
    path: [name, word],
    variable: variableOf([name]),
    read: readText,
  })),
  ...KEYS,
]

/** Names the configuration file itself; `--config` wins over it. */
export const CONFIG_VARIABLE = `${PREFIX}CONFIG`

/** Whether a variable belongs to the configuration, and not to the lab or to tests that make a shard crash. */
export const isVariable = (name: string): boolean =>
  name.startsWith(PREFIX) && !name.startsWith(`${PREFIX}LAB_`) && name !== `${PREFIX}FAULTS`
