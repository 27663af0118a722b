import { afterEach, describe, expect, it, vi } from 'vitest'
import { lab } from '../../src/lab/lab.ts'

describe('natloom lab, asked for what it has not', () => {
  const said: string[] = []
  vi.spyOn(console, 'error').mockImplementation((text) => void said.push(text))
  afterEach(() => {
    said.length = 0
  })

  const wrong = [
    [['teleport'], 'there is no scenario "teleport"'],
    [['forward', 'again'], 'one scenario at a time, not also again'],
    [['--gateway', 'magic'], '--gateway magic: allowed are natloom, kernel'],
    [['--workers', '65'], '--workers 65: allowed is a whole number from 1 to 64'],
    [['--dispatch', 'magic'], '--dispatch magic: allowed are kernel, thread'],
    [['--fast'], "Unknown option '--fast'"],
  ] as const
  for (const [argv, says] of wrong)
    it(`${argv.join(' ')}: exit code 2, what is wrong, and the scenarios there are`, async () => {
      expect(await lab([...argv])).toBe(2)
      expect(said.join('\n')).toContain(says)
      expect(said.join('\n')).toMatch(/scenarios:\n {2}forward +\w/)
    })
})
