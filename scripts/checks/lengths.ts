// How long a line and a file may be. The formatter breaks code at 120 columns, but neither comments nor strings.

import { type Finding, sources } from './finding.ts'

const COLUMNS = 120
const LINES = 400
const LINES_OF = ['src', 'workers', 'test', 'bench', 'scripts']

export function checkLengths(root: string): Finding[] {
  const findings: Finding[] = []
  for (const { path, text } of sources(root, LINES_OF)) {
    const lines = text.replace(/\n$/, '').split('\n')
    for (const [i, line] of lines.entries())
      if (line.length > COLUMNS)
        findings.push({
          place: `${path}:${i + 1}`,
          rule: `${line.length} columns, at most ${COLUMNS}`,
          advice: 'wrap the comment, or cut the string',
        })
    if (lines.length > LINES)
      findings.push({
        place: path,
        rule: `${lines.length} lines, at most ${LINES}`,
        advice: 'a file is one concept: give the second one a file of its own',
      })
  }
  return findings
}
