// A mistake in the configuration as its reader meets it: the place, and what is wrong there. The words that keys and
// values have in all of these messages.

/** A mistake in the configuration, and where to correct it. */
export interface Problem {
  /** `natloom.yaml:4: nat.blockSize`, or the name of a variable. */
  readonly where: string
  readonly what: string
}

/** Where a value stands in the tree of all: names of keys, and places in lists. */
export type Path = readonly PropertyKey[]

/** `forward[0].from` */
export const keyName = (path: Path): string =>
  path.map((part, i) => (typeof part === 'number' ? `[${part}]` : i === 0 ? String(part) : `.${String(part)}`)).join('')

const MOST_SHOWN = 120

/** A value as it is repeated in a message. */
export function shown(value: unknown): string {
  const text = typeof value === 'number' ? String(value) : (JSON.stringify(value) ?? String(value))
  return text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)}...` : text
}

/** Why a file can't be read or written, by the error number of the call that was refused. */
export const FILE_ERRORS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  ENOTDIR: 'a part of its path is no directory',
  EISDIR: 'it is a directory',
  EACCES: 'this user may not',
  EPERM: 'this user may not',
  EROFS: 'the file system is read-only',
  ENOSPC: 'the file system is full',
  ENAMETOOLONG: 'the name is too long',
  ELOOP: 'its symbolic links go round in a circle',
}
