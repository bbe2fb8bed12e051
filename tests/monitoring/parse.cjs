// Reads PromQL, a JSON string in each line, and writes its syntax tree, JSON in a line again:
// {"name": …, "text": …, "children": […]}. What is no PromQL has nodes named "⚠".
//
// The grammar is Prometheus' own, which its web page uses; set-up places it in .cache/lib/node.
'use strict'

const path = require('node:path')
const readline = require('node:readline')
const { createRequire } = require('node:module')

const root = path.join(__dirname, '..', '..', '.cache', 'lib', 'node', 'node_modules', 'here.js')
const { parser } = createRequire(root)('@prometheus-io/lezer-promql')

function tree(node, text) {
  const children = []
  for (let child = node.firstChild; child; child = child.nextSibling) children.push(tree(child, text))
  return { name: node.name, text: text.slice(node.from, node.to), children }
}

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const text = JSON.parse(line)
  console.log(JSON.stringify(tree(parser.parse(text).topNode, text)))
})
