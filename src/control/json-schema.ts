// The configuration's JSON schema (draft 2020-12): what editors check natloom.yaml against, and the tree that keys.ts
// walks. `natloom check --schema` prints it; deploy/natloom.schema.json is that output, kept.

import * as z from 'zod'
import { ELEMENT_SHORTHANDS, SHORTHANDS, schema } from './schema.ts'

export interface SchemaNode {
  readonly type?: string
  readonly description?: string
  readonly default?: unknown
  readonly properties?: Readonly<Record<string, SchemaNode>>
  readonly items?: SchemaNode
  readonly anyOf?: readonly SchemaNode[]
}

/** The schema without shorthands: every section is an object. */
export function plainSchema(): SchemaNode {
  return z.toJSONSchema(schema, {
    io: 'input',
    override: ({ jsonSchema }) => {
      // A section has no default of its own: it follows from the defaults of its keys.
      if (jsonSchema.type === 'object') delete jsonSchema.default
    },
  }) as SchemaNode
}

export function jsonSchema(): SchemaNode {
  const plain = plainSchema()
  const properties = Object.entries(plain.properties ?? {}).map(([name, node]): [string, SchemaNode] => {
    const word = SHORTHANDS[name]
    const meant = word && node.properties?.[word]
    if (ELEMENT_SHORTHANDS[name] && node.items)
      return [name, { ...node, items: { anyOf: [{ type: 'string' }, node.items] } }]
    return [name, meant ? { anyOf: [meant, node] } : node]
  })
  return { ...plain, properties: Object.fromEntries(properties) }
}
