// Reads Prometheus' text exposition format 0.0.4, as far as the gateway writes it. The lab reads its figures there, as
// any other monitoring does.

export interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g
const VALUES: Readonly<Record<string, number>> = { '+Inf': Infinity, '-Inf': -Infinity }

/** The samples of an exposition; comments and lines of another form are passed over. */
export function parseMetrics(text: string): Sample[] {
  const samples: Sample[] = []
  for (const line of text.split('\n')) {
    const [, name, labels = '', value] = SAMPLE.exec(line) ?? []
    if (name === undefined || value === undefined) continue
    samples.push({
      name,
      labels: Object.fromEntries([...labels.matchAll(LABEL)].map(([, key, text]) => [key, text])),
      value: VALUES[value] ?? Number(value),
    })
  }
  return samples
}

/** The sum of those samples of a metric that have these labels. */
export function sum(samples: readonly Sample[], name: string, labels: Readonly<Record<string, string>> = {}): number {
  let total = 0
  for (const sample of samples)
    if (sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value))
      total += sample.value
  return total
}

/** The samples of a metric, added up for each value of one label. */
export function sumBy(samples: readonly Sample[], name: string, label: string): Map<string, number> {
  const totals = new Map<string, number>()
  for (const sample of samples) {
    const key = sample.labels[label]
    if (sample.name === name && key !== undefined) totals.set(key, (totals.get(key) ?? 0) + sample.value)
  }
  return totals
}
