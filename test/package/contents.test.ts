// What the package holds: everything that its documents, its source maps and its own code refer to, and nothing else.

import { readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { describe, expect, it } from 'vitest'
import { PROJECT, packedFiles } from './packed.ts'

const files = packedFiles()
const packed = new Set(files)
const textOf = (path: string): string => readFileSync(join(PROJECT, path), 'utf8')
const ending = (end: string): readonly string[] => files.filter((path) => path.endsWith(end))

/** Where a reference leads, from the file that makes it. */
const targetOf = (from: string, reference: string): string => normalize(join(dirname(from), reference))

/** References to files that the package doesn't hold, as `from -> to`. */
function missing(from: readonly string[], referencesOf: (text: string) => Iterable<string>): readonly string[] {
  return from.flatMap((path) =>
    [...referencesOf(textOf(path))]
      .filter((reference) => !packed.has(targetOf(path, reference)))
      .map((reference) => `${path} -> ${reference}`),
  )
}

const BLOCK = /^```.*?^```$/gms
const LINK = /\]\(([^)\s]+)\)/g
const proseOf = (markdown: string): string => markdown.replaceAll(BLOCK, '').replaceAll(/`[^`\n]*`/g, '')

/** Relative links, without their anchors. */
const linksOf = (markdown: string): readonly string[] =>
  [...proseOf(markdown).matchAll(LINK)].map(([, to]) => to!).filter((to) => !/^[a-z]+:/.test(to))

/** A heading's anchor, as GitHub and npm make it. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-')

const anchorsOf = (path: string): readonly string[] =>
  [
    ...textOf(path)
      .replaceAll(BLOCK, '')
      .matchAll(/^#+ (.+)$/gm),
  ].map(([, heading]) => anchorOf(heading!))

describe('the package', () => {
  it('holds what its documents link to', () => {
    const documents = ending('.md')
    expect(documents).toContain('README.md')
    expect(linksOf(textOf('README.md')).length).toBeGreaterThan(10)
    expect(
      missing(documents, (text) =>
        linksOf(text).flatMap((link) => (link.startsWith('#') ? [] : [link.split('#')[0]!])),
      ),
    ).toEqual([])
  })

  it('has the headings that links of its documents name', () => {
    const broken = ending('.md').flatMap((path) =>
      linksOf(textOf(path))
        .filter((link) => link.includes('#'))
        .map((link) => link.split('#') as [string, string])
        .filter(([to, anchor]) => !anchorsOf(to === '' ? path : targetOf(path, to)).includes(anchor))
        .map(([to, anchor]) => `${path} -> ${to}#${anchor}`),
    )
    expect(broken).toEqual([])
  })

  it('holds the sources that its source maps name', () => {
    const maps = ending('.js.map')
    expect(maps.length).toBeGreaterThan(100)
    expect(missing(maps, (text) => JSON.parse(text).sources)).toEqual([])
  })

  it('holds a source map for each module', () => {
    expect(ending('.js').filter((path) => !packed.has(`${path}.map`))).toEqual([])
  })

  it('holds what its modules and declarations import', () => {
    const imports = /(?:\bfrom|\bimport\(?) ?'(\.{1,2}\/[^']+)'/g
    const modules = [...ending('.js'), ...ending('.d.ts')]
    // The imports of a declaration name sources; TypeScript looks for their declarations there.
    const compiled = (name: string): string => name.replace(/\.ts$/, '.d.ts')
    expect(missing(modules, (text) => [...text.matchAll(imports)].map(([, to]) => compiled(to!)))).toEqual([])
  })

  it('holds what its package.json names', () => {
    const { exports, bin, imports } = JSON.parse(textOf('package.json'))
    const named = [...Object.values(exports).flatMap(pathsOf), ...pathsOf(bin), imports['#faults'].default]
    expect(named.length).toBeGreaterThan(5)
    expect(named.filter((path) => !packed.has(normalize(path)))).toEqual([])
  })

  it('holds dashboards, alert rules, deployment and the changelog', () => {
    for (const path of ['dashboards/alerts.yaml', 'deploy/natloom.service', 'CHANGELOG.md'])
      expect(files).toContain(path)
  })

  it('holds no tests, benches, checks, nor anything that the build uses for itself', () => {
    const allowed = /^(dist\/)?(src|workers)\/|^(deploy|dashboards|docs)\/|^(bench|scripts)\/(.*\/)?README\.md$|^[^/]+$/
    expect(files.filter((path) => !allowed.test(path))).toEqual([])
    expect(files.filter((path) => /tsbuildinfo|\.test\.[jt]s$|^(tsconfig|biome|knip|vitest)/.test(path))).toEqual([])
  })

  it('holds nothing compiled whose source is no more', () => {
    const orphans = ending('.js').filter(
      (path) => path.startsWith('dist/') && !packed.has(path.slice('dist/'.length).replace(/(\.bundle)?\.js$/, '.ts')),
    )
    expect(orphans).toEqual([])
  })
})

/** Every path in an entry of package.json, whatever its conditions. */
const pathsOf = (entry: unknown): readonly string[] =>
  typeof entry === 'string' ? [entry] : Object.values(entry as object).flatMap(pathsOf)
