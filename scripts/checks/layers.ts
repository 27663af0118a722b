// The rules of .dependency-cruiser.mjs, and that folders have no cycles.
//
// A folder's imports are those of its files. Where a folder has subfolders, its own files count one by one: some stand
// above the subfolders (datapath/pipeline.ts), some below them (coordinator/config.ts), and together they would make a
// cycle of what is none. dependency-cruiser's own folder rules (`scope: 'folder'`) take a folder with all that is below
// it as one, and so miss a cycle that leads through a file of the parent folder.

import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cruise, type ICruiseOptions, type ICruiseResult } from 'dependency-cruiser'
import extractConfig from 'dependency-cruiser/config-utl/extract-depcruise-config'
import type { Finding } from './finding.ts'

const FOLDERS = ['src', 'workers', 'bench', 'test', 'scripts']
/** Tests share their scenery as they need it: test/io uses test/contract, which uses test/helpers. */
const ACYCLIC = ['src', 'workers']
const CONFIG = '.dependency-cruiser.mjs'
/** Programs stand above what they lie beside. */
const PROGRAMS = ['src/control/main.ts']

type Module = ICruiseResult['modules'][number]

/** The project that this file belongs to, compiled or not: its rules hold also for a folder that a test has made. */
function rulesFile(): string {
  let folder = dirname(fileURLToPath(import.meta.url))
  while (!existsSync(join(folder, CONFIG))) folder = dirname(folder)
  return join(folder, CONFIG)
}

/** From each node of the folder graph to those it imports, with an import that shows it. */
function folderGraph(modules: readonly Module[]): Map<string, Map<string, string>> {
  const own = modules.filter(({ source }) => ACYCLIC.includes(source.split('/')[0] as string))
  const folders = new Set(own.map(({ source }) => dirname(source)))
  const isParent = (folder: string): boolean => [...folders].some((other) => other.startsWith(`${folder}/`))
  const parents = new Set([...folders].filter(isParent))
  const nodeOf = (path: string): string =>
    parents.has(dirname(path)) || PROGRAMS.includes(path) ? path : dirname(path)
  const graph = new Map<string, Map<string, string>>()
  for (const { source, dependencies } of own) {
    const node = nodeOf(source)
    const edges = graph.get(node) ?? new Map<string, string>()
    graph.set(node, edges)
    for (const { resolved } of dependencies)
      if (nodeOf(resolved) !== node && !edges.has(nodeOf(resolved)))
        edges.set(nodeOf(resolved), `${source} imports ${resolved}`)
  }
  return graph
}

/** One cycle for every edge back that a walk in depth meets; none if there is none. */
function cyclesOf(graph: ReadonlyMap<string, ReadonlyMap<string, string>>): string[][] {
  const cycles: string[][] = []
  const done = new Set<string>()
  const path: string[] = []
  const walk = (node: string): void => {
    const at = path.indexOf(node)
    if (at >= 0) cycles.push([...path.slice(at), node])
    if (at >= 0 || done.has(node)) return
    path.push(node)
    for (const next of graph.get(node)?.keys() ?? []) walk(next)
    path.pop()
    done.add(node)
  }
  for (const node of graph.keys()) walk(node)
  return cycles
}

function folderFindings(modules: readonly Module[]): Finding[] {
  const graph = folderGraph(modules)
  return cyclesOf(graph).map((cycle) => ({
    place: cycle.join(' -> '),
    rule: 'no cycles between folders',
    advice: `${cycle
      .slice(1)
      .map((node, i) => graph.get(cycle[i] as string)?.get(node))
      .join(', ')}: move what makes it a cycle`,
  }))
}

export async function checkLayers(root: string): Promise<Finding[]> {
  const { forbidden = [], options } = (await extractConfig(rulesFile())) as ICruiseOptions['ruleSet'] & {
    options: ICruiseOptions
  }
  const cruiseOptions: ICruiseOptions = { ...options, baseDir: root, validate: true, ruleSet: { forbidden } }
  const present = FOLDERS.filter((folder) => existsSync(join(root, folder)))
  const { output } = await cruise(present, cruiseOptions, {
    exportsFields: ['exports'],
    conditionNames: ['import', 'node'],
  })
  const { modules, summary } = output as ICruiseResult
  const commentOf = (name: string): string => forbidden.find((rule) => rule.name === name)?.comment ?? ''
  return [
    ...summary.violations.map(({ from, to, rule, cycle }) => ({
      place: cycle ? [from, ...cycle.map(({ name }) => name)].join(' -> ') : `${from} -> ${to}`,
      rule: rule.name,
      advice: commentOf(rule.name),
    })),
    ...folderFindings(modules),
  ]
}
