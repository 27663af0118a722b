// Tables of what a user writes and exactly what natloom answers, as text files beside the tests: a block for each case,
// blocks separated by an empty line, lines with `#` in front left out. In a block the answer's lines begin with `> `;
// all others are what was written. `\t` stands for a tab.

import { readFileSync } from 'node:fs'

export interface Case {
  readonly written: readonly string[]
  readonly answer: readonly string[]
  /** Of the block in its file. */
  readonly line: number
}

export function readTable(name: string): Case[] {
  const cases: Case[] = []
  let block: { written: string[]; answer: string[]; line: number } | undefined
  for (const [i, line] of readFileSync(new URL(name, import.meta.url), 'utf8')
    .split('\n')
    .entries()) {
    if (line.startsWith('#')) continue
    if (line === '') {
      block = undefined
      continue
    }
    if (block === undefined) {
      block = { written: [], answer: [], line: i + 1 }
      cases.push(block)
    }
    if (line.startsWith('> ')) block.answer.push(line.slice(2))
    else block.written.push(line.replaceAll('\\t', '\t'))
  }
  return cases
}
