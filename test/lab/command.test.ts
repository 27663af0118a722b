import { afterEach, describe, expect, it, vi } from 'vitest'
import { lab } from '../../src/lab/lab.ts'

const printed: string[] = []
for (const stream of [process.stdout, process.stderr])
  vi.spyOn(stream, 'write').mockImplementation((text) => printed.push(String(text)) > 0)
afterEach(() => {
  printed.length = 0
})

describe('natloom lab, asked for what it does not have', () => {
  const wrong = [
    [['teleport'], "value 'teleport' is invalid for argument 'scenario'. Allowed choices are forward, ftp."],
    [['forward', 'again'], 'too many arguments. Expected 1 argument but got 2.'],
    [['--gateway', 'magic'], "argument 'magic' is invalid. Allowed choices are natloom, kernel."],
    [['--workers', '65'], "argument '65' is invalid. Allowed is a whole number from 1 to 64."],
    [['--dispatch', 'magic'], "argument 'magic' is invalid. Allowed choices are kernel, thread."],
    [['--fast'], "unknown option '--fast'"],
  ] as const
  for (const [argv, message] of wrong)
    it(`${argv.join(' ')}: exit code 2, what is wrong, and the scenarios there are`, async () => {
      expect(await lab([...argv])).toBe(2)
      expect(printed.join('')).toMatch(/^natloom lab: /)
      expect(printed.join('')).toContain(message)
      expect(printed.join('')).toMatch(/scenarios:\n {2}forward +\w/)
    })
})

it('natloom lab --help prints the options and the scenarios, and ends with 0', async () => {
  expect(await lab(['--help'])).toBe(0)
  expect(printed.join('')).toMatch(
    /^Usage: natloom lab .*--workers.*--dispatch.*--gateway.*scenarios:\n {2}forward +\w/s,
  )
})
