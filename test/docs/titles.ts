import { readFileSync } from 'node:fs'
import ts from 'typescript'

/** Between the titles of nested tests, in the docs. */
export const SEPARATOR = ' › '

/**
 * The full titles of the tests in a file, those of their groups in front. Where a title has a part that is known at
 * run time only, there is a `…`.
 */
export function testTitlesIn(path: string): string[] {
  const source = ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.ES2022)
  const titles: string[] = []
  visit(source, [])
  return titles

  function visit(node: ts.Node, groups: string[]): void {
    const call = ts.isCallExpression(node) ? titledCall(node) : null
    const path = call === null ? groups : [...groups, call.title]
    if (call?.kind === 'it') titles.push(path.join(SEPARATOR))
    else ts.forEachChild(node, (child) => visit(child, path))
  }
}

/** A call of `it`, `describe`, or what their `each` returns, with a title. */
function titledCall(call: ts.CallExpression): { kind: 'it' | 'describe'; title: string } | null {
  let callee: ts.Expression = call.expression
  while (ts.isCallExpression(callee) || ts.isPropertyAccessExpression(callee)) callee = callee.expression
  if (!ts.isIdentifier(callee) || (callee.text !== 'it' && callee.text !== 'describe')) return null
  const title = titleOf(call.arguments[0])
  return title === null ? null : { kind: callee.text, title }
}

function titleOf(node: ts.Expression | undefined): string | null {
  if (node === undefined) return null
  if (ts.isStringLiteralLike(node)) return node.text
  if (!ts.isTemplateExpression(node)) return null
  return node.head.text + node.templateSpans.map(({ literal }) => `…${literal.text}`).join('')
}
