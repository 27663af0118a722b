// At most five positional parameters: of functions, methods, constructors, arrow functions, and of the types of such.
// At a call with more nobody can see any longer which argument is which.

import ts from 'typescript'
import { type Finding, sources } from './finding.ts'

const AT_MOST = 5
const FOLDERS = ['src', 'workers', 'test', 'bench', 'scripts']

/** What a reader would call it. */
function nameOf(node: ts.SignatureDeclaration): string {
  if (node.name && 'text' in node.name) return node.name.text
  if (ts.isConstructorDeclaration(node)) return 'the constructor'
  const { parent } = node
  const named = ts.isVariableDeclaration(parent) || ts.isPropertyAssignment(parent) || ts.isPropertySignature(parent)
  return named && ts.isIdentifier(parent.name) ? parent.name.text : 'a function'
}

/** `this` is declared as a parameter, but nobody passes it. */
const isPassed = ({ name }: ts.ParameterDeclaration): boolean => !ts.isIdentifier(name) || name.text !== 'this'

export function checkParameters(root: string): Finding[] {
  const findings: Finding[] = []
  for (const { path, text } of sources(root, FOLDERS)) {
    const file = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true)
    const visit = (node: ts.Node): void => {
      if (ts.isFunctionLike(node)) {
        const count = node.parameters.filter(isPassed).length
        const line = file.getLineAndCharacterOfPosition(node.getStart(file)).line + 1
        if (count > AT_MOST)
          findings.push({
            place: `${path}:${line}`,
            rule: `${nameOf(node)} has ${count} positional parameters, at most ${AT_MOST}`,
            advice: 'make what belongs together one parameter: a row, a column of the burst, an object of options',
          })
      }
      ts.forEachChild(node, visit)
    }
    visit(file)
  }
  return findings
}
