// A small project for a check to look at, in a folder of its own.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Finding } from '../../scripts/checks/finding.ts'

/** Runs the check on a project of these files; what it finds. */
export async function findingsIn(
  files: Readonly<Record<string, string>>,
  check: (root: string) => Finding[] | Promise<Finding[]>,
): Promise<Finding[]> {
  const root = mkdtempSync(join(tmpdir(), 'natloom-check-'))
  try {
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(root, path)), { recursive: true })
      writeFileSync(join(root, path), text)
    }
    return await check(root)
  } finally {
    rmSync(root, { recursive: true })
  }
}
