// Why Node doesn't take a file for the module that a helper is, where in it, and what its author or operator can do.
// Node says what stands in its way, in words for whoever knows how it loads modules; here the way out is named.
//
//   TypeScript    Node reads it by taking the types out: since 22.18 and 23.6, not in node_modules, and only where
//                 nothing has to be compiled (nodejs.org/api/typescript.html). natloom brings no compiler.
//   CommonJS      what a .js (or .ts) is depends on the nearest package.json; a helper is an ES module
//   natloom       is found from where the module lies, not from where natloom runs
//   other names   .txt, .yaml

const TYPESCRIPT = /\.[cm]?ts$/

/** What the message depends on beside the error. */
export interface Runtime {
  /** process.version */
  readonly version: string
}

/**
 * What is wrong with the module's format, if that is why its import failed with this error; undefined if it failed of
 * something else.
 */
export function formatFault(error: unknown, { version }: Runtime = process): string | undefined {
  if (!(error instanceof Error)) return undefined
  const { message, stack = '' } = error
  switch ((error as NodeJS.ErrnoException).code) {
    case 'ERR_UNKNOWN_FILE_EXTENSION': {
      const file = message.slice(message.indexOf(' for ') + ' for '.length)
      if (!TYPESCRIPT.test(file)) return `${file} is no module by its name, which has to end in .js, .mjs or .ts`
      return (
        `${file} is TypeScript, which Node ${version.slice(1)} doesn't read: run natloom by Node 22.18 or later, or ` +
        'compile it and load the .js that comes of it'
      )
    }
    case 'ERR_UNSUPPORTED_NODE_MODULES_TYPE_STRIPPING':
      return (
        `${/"(.*)"/.exec(message)?.[1]} is TypeScript in node_modules, which Node doesn't read: load it from another ` +
        'folder, or compile it and load the .js that comes of it'
      )
    case 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX':
      return (
        `${message} (at ${placeOf(stack)}): Node only takes the types out of TypeScript. Write it without what ` +
        'has to be compiled (enum, namespace, parameter properties), or compile it and load the .js that comes of it'
      )
    case 'ERR_MODULE_NOT_FOUND': {
      const [, importer] = /^Cannot find package 'natloom' imported from (.*)/.exec(message) ?? []
      if (importer === undefined) return undefined
      return (
        `${importer} imports natloom, which is not installed in its folder, nor above: import types only ` +
        "(import type), and write verdicts as the words that they are ('drop')"
      )
    }
    case 'ERR_INVALID_TYPESCRIPT_SYNTAX':
      return `${message} (at ${placeOf(stack)})`
  }
  if (error instanceof SyntaxError && isCommonJs(message, stack))
    return (
      `${placeOf(stack).replace(/(:\d+)+$/, '')} is an ES module, and Node reads it as CommonJS: name it .mjs, or ` +
      'write "type": "module" into the package.json of its folder'
    )
  return undefined
}

/**
 * The stack of what Node could not read begins with the file and the line, `/etc/natloom/parcel.ts:5`, followed by some
 * lines of the source and, below the one in question, carets.
 */
function placeOf(stack: string): string {
  const carets = /^([ \t]*)\^+$/m.exec(stack)
  return stack.slice(0, stack.indexOf('\n')) + (carets === null ? '' : `:${carets[1]!.length + 1}`)
}

const isCommonJs = (message: string, stack: string): boolean =>
  /^Unexpected token 'export'|^Cannot use import statement outside a module/.test(message) &&
  /node:internal\/modules\/cjs|loadCJSModule/.test(stack)
