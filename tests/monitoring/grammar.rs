//! Prometheus' own grammar of its query language, and the trees that it makes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{LazyLock, Mutex};

use serde::Deserialize;

use crate::harness::file;
use crate::promql::Labels;

/// A node of a query's syntax tree; the names are those of the grammar.
#[derive(Debug, Deserialize)]
pub struct Tree {
    pub name: String,
    pub text: String,
    pub children: Vec<Tree>,
}

/// A Node.js that has loaded the grammar. It ends with the test, when its input does.
struct Reader {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _node: Child,
}

impl Reader {
    fn start() -> Self {
        let mut node = Command::new("node")
            .arg(file("tests/monitoring/parse.cjs"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Node.js is there: `make setup` asks for it");
        Self {
            input: node.stdin.take().unwrap(),
            output: BufReader::new(node.stdout.take().unwrap()),
            _node: node,
        }
    }

    fn read(&mut self, query: &str) -> std::io::Result<Tree> {
        writeln!(self.input, "{}", serde_json::to_string(query)?)?;
        let mut answer = String::new();
        self.output.read_line(&mut answer)?;
        Ok(serde_json::from_str(&answer)?)
    }
}

/// Lets Prometheus' grammar read a query. One Node.js does all of a test's.
pub fn parse(query: &str) -> Tree {
    static READER: LazyLock<Mutex<Reader>> = LazyLock::new(|| Mutex::new(Reader::start()));
    let read = READER.lock().unwrap().read(query);
    read.expect("Prometheus' grammar is missing: run `make setup`")
}

impl Tree {
    /// This node and all below it.
    pub fn each<'a>(&'a self, see: &mut impl FnMut(&'a Tree)) {
        see(self);
        self.children.iter().for_each(|child| child.each(see));
    }

    /// The first node of this name, here or below.
    pub fn find(&self, name: &str) -> Option<&Tree> {
        let mut found = None;
        self.each(&mut |node| {
            if node.name == name && found.is_none() {
                found = Some(node);
            }
        });
        found
    }

    pub fn child(&self, name: &str) -> Option<&Tree> {
        self.children.iter().find(|child| child.name == name)
    }

    pub fn text_of(&self, child: &str) -> &str {
        self.child(child).map_or("", |child| &child.text)
    }

    /// The parts of it that are expressions.
    pub fn expressions(&self) -> impl Iterator<Item = &Tree> {
        let is = |node: &&Tree| {
            let name = node.name.as_str();
            let literal = ["NumberDurationLiteral", "StringLiteral"].contains(&name);
            literal
                || ["Expr", "Call", "Selector"]
                    .iter()
                    .any(|kind| name.ends_with(kind) && !name.starts_with("Duration"))
        };
        self.children.iter().filter(is)
    }

    /// The labels in its list of labels.
    pub fn grouping(&self) -> Labels {
        let listed = self
            .child("GroupingLabels")
            .map_or(&[][..], |list| &list.children);
        listed.iter().map(|label| label.text.clone()).collect()
    }

    /// A selector's matchers: label, operator, value.
    pub fn matchers(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        let all = self
            .child("LabelMatchers")
            .map_or(&[][..], |all| &all.children);
        all.iter().map(|matcher| {
            let value = matcher.text_of("StringLiteral").trim_matches('"');
            (
                matcher.text_of("LabelName"),
                matcher.text_of("MatchOp"),
                value,
            )
        })
    }
}
