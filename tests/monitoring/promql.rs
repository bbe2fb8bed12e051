//! Whether a query can have an answer: it is PromQL, and every metric, label and value in it exists.
//!
//! Labels are followed through the expression, by the rules of Prometheus' documentation ("Operators",
//! "Functions").

use std::collections::BTreeSet;

use crate::exported::Exported;
use crate::grammar::{Tree, parse};

pub type Labels = BTreeSet<String>;

/// What an expression is, as far as matching goes.
#[derive(Debug, PartialEq)]
enum Answer {
    /// A number without labels, which joins with anything.
    Scalar,
    /// Series with these labels.
    Series(Labels),
}

/// The labels of the answer to a query, or what is wrong with the query.
pub fn labels(query: &str, exported: &Exported) -> Result<Labels, String> {
    let tree = parse(query);
    if let Some(wrong) = tree.find("\u{26a0}") {
        return Err(format!("no PromQL at {:?}: {query}", wrong.text));
    }
    let whole = tree.children.first().ok_or("no PromQL: nothing is asked")?;
    match answer(whole, exported) {
        Ok(Answer::Series(labels)) => Ok(labels),
        Ok(Answer::Scalar) => Ok(Labels::new()),
        Err(fault) => Err(format!("{fault}: {query}")),
    }
}

/// The selectors of a query: metric, and the labels that are matched.
pub fn selectors(query: &str) -> Vec<(String, Labels)> {
    let mut found = Vec::new();
    parse(query).each(&mut |node| {
        if node.name == "VectorSelector" {
            let matched = node.matchers().map(|(label, _, _)| label.to_owned());
            found.push((node.text_of("Identifier").to_owned(), matched.collect()));
        }
    });
    found
}

fn answer(tree: &Tree, exported: &Exported) -> Result<Answer, String> {
    let inside = || {
        let first = tree
            .expressions()
            .next()
            .ok_or("an expression is missing")?;
        answer(first, exported)
    };
    match tree.name.as_str() {
        "NumberDurationLiteral" | "StringLiteral" => Ok(Answer::Scalar),
        "VectorSelector" => selected(tree, exported).map(Answer::Series),
        "MatrixSelector" | "ParenExpr" | "UnaryExpr" | "OffsetExpr" | "SubqueryExpr" => inside(),
        "AggregateExpr" => aggregated(tree, exported).map(Answer::Series),
        "FunctionCall" => called(tree, exported),
        "BinaryExpr" => joined(tree, exported),
        other => Err(format!("teach tests/monitoring/promql.rs about {other}")),
    }
}

fn series(tree: &Tree, exported: &Exported) -> Result<Labels, String> {
    match answer(tree, exported)? {
        Answer::Series(labels) => Ok(labels),
        Answer::Scalar => Err(format!("{} is no series", tree.text)),
    }
}

fn selected(selector: &Tree, exported: &Exported) -> Result<Labels, String> {
    let name = selector.text_of("Identifier");
    let series = exported
        .series(name)
        .ok_or(format!("nothing exports {name}"))?;
    for (label, operator, value) in selector.matchers() {
        if !series.labels.contains(label) {
            return Err(format!("{name} has no label {label}"));
        }
        let known = series.values(label);
        if let Some(wrong) = known.and_then(|known| unknown(operator, value, &known)) {
            return Err(format!("{name} has no {label}=\"{wrong}\""));
        }
    }
    Ok(series.labels)
}

/// A value that a matcher names and no series can have. Of a pattern every alternative must match
/// something.
fn unknown(operator: &str, value: &str, known: &Labels) -> Option<String> {
    let matches = |alternative: &&str| {
        let whole = regex_lite::Regex::new(&format!("^(?:{alternative})$"));
        whole.is_ok_and(|whole| known.iter().any(|value| whole.is_match(value)))
    };
    match operator {
        "=" | "!=" => (!known.contains(value)).then(|| value.to_owned()),
        _ => value
            .split('|')
            .find(|one| !matches(one))
            .map(str::to_owned),
    }
}

fn aggregated(tree: &Tree, exported: &Exported) -> Result<Labels, String> {
    let body = tree
        .child("FunctionCallBody")
        .ok_or("nothing is aggregated")?;
    let of = body.expressions().last().ok_or("nothing is aggregated")?;
    let inside = series(of, exported)?;
    let Some(modifier) = tree.child("AggregateModifier") else {
        return Ok(Labels::new());
    };
    let listed = modifier.grouping();
    // Alerts carry the labels of whatever they were raised for.
    let alerts = inside.contains("alertname");
    match listed.difference(&inside).next() {
        Some(label) if !alerts => Err(format!("there is no {label} to group by")),
        _ if modifier.child("Without").is_some() => Ok(&inside - &listed),
        _ => Ok(listed),
    }
}

fn called(tree: &Tree, exported: &Exported) -> Result<Answer, String> {
    let function = tree.text_of("FunctionIdentifier");
    let body = tree.child("FunctionCallBody");
    let arguments: Vec<_> = body.map_or(vec![], |body| body.expressions().collect());
    let ranged = [
        "rate",
        "increase",
        "irate",
        "avg_over_time",
        "max_over_time",
        "changes",
    ];
    match (function, arguments.as_slice()) {
        ("time", []) => Ok(Answer::Scalar),
        ("vector", [_]) => Ok(Answer::Series(Labels::new())),
        ("absent", [of]) => series(of, exported).map(|_| Answer::Series(Labels::new())),
        ("histogram_quantile", [_, of]) => {
            let mut inside = series(of, exported)?;
            match inside.remove("le") {
                true => Ok(Answer::Series(inside)),
                false => Err("histogram_quantile of what has no le".to_owned()),
            }
        }
        (_, [of]) if ranged.contains(&function) => {
            if of.find("MatrixSelector").is_none() && of.find("SubqueryExpr").is_none() {
                return Err(format!("no PromQL: {function} wants a range of time"));
            }
            let name = of.find("Identifier").map_or("", |name| &name.text);
            let grows = exported.series(name).is_none_or(|series| series.counts);
            if ["rate", "increase", "irate"].contains(&function) && !grows {
                return Err(format!("{function} of {name}, which is no counter"));
            }
            series(of, exported).map(Answer::Series)
        }
        _ => Err(format!(
            "teach tests/monitoring/promql.rs about {}",
            tree.text
        )),
    }
}

fn joined(tree: &Tree, exported: &Exported) -> Result<Answer, String> {
    let sides: Vec<_> = tree.expressions().collect();
    let [left, right] = sides.as_slice() else {
        return Err("an operand is missing".to_owned());
    };
    let (left, right) = match (answer(left, exported)?, answer(right, exported)?) {
        (Answer::Series(left), Answer::Series(right)) => (left, right),
        (Answer::Scalar, other) | (other, Answer::Scalar) => return Ok(other),
    };
    let sets = ["And", "Unless", "Or"].map(|name| tree.child(name).is_some());
    let operator = tree.children[1].text.as_str();
    let clause = tree.child("MatchingModifierClause");
    let listed = clause.map(Tree::grouping).unwrap_or_default();
    let matched = match clause {
        Some(clause) if clause.child("On").is_some() => {
            let lacks = |label: &&String| !left.contains(*label) || !right.contains(*label);
            if let Some(label) = listed.iter().find(lacks) {
                return Err(format!("`{operator} on`: {label} is not on both sides"));
            }
            listed
        }
        // `or` keeps what is on either side, whatever it matches.
        None if sets[2] => left.clone(),
        _ => {
            let (of_left, of_right) = (&left - &listed, &right - &listed);
            if of_left != of_right {
                return Err(format!(
                    "`{operator}`: {of_left:?} and {of_right:?} never match"
                ));
            }
            of_left
        }
    };
    // The second list is what `group_left` and `group_right` take over from the other side.
    let lists = clause.map_or(&[][..], |clause| &clause.children).iter();
    let more = lists.filter(|part| part.name == "GroupingLabels").nth(1);
    let whole = |side: Labels| -> Labels {
        let more = more.map_or(&[][..], |list| &list.children);
        let more = more.iter().map(|label| label.text.clone());
        side.into_iter().chain(more).collect()
    };
    let grouped = |name| clause.is_some_and(|clause| clause.child(name).is_some());
    Ok(Answer::Series(if sets.contains(&true) {
        left
    } else if grouped("GroupLeft") {
        whole(left)
    } else if grouped("GroupRight") {
        whole(right)
    } else {
        matched
    }))
}

const TEXT: &str = r#"# TYPE cutout_jobs_total counter
cutout_jobs_total{code="none",ingress="local",outcome="done"} 1
# TYPE cutout_jobs_in_flight gauge
cutout_jobs_in_flight{ingress="local"} 1
# TYPE cutout_job_seconds histogram
cutout_job_seconds_bucket{le="+Inf"} 1
cutout_job_seconds_sum 1
cutout_job_seconds_count 1
"#;

#[test]
fn the_labels_of_an_answer_are_those_that_prometheus_would_give_it() {
    let exported = Exported::parse(TEXT);
    for (query, expected) in [
        ("cutout_jobs_in_flight", "ingress instance job"),
        ("sum(cutout_jobs_in_flight)", ""),
        ("sum by (ingress) (cutout_jobs_in_flight) > 2", "ingress"),
        (
            "sum without (ingress) (cutout_jobs_in_flight)",
            "instance job",
        ),
        (
            "histogram_quantile(0.9, sum by (job, le) (rate(cutout_job_seconds_bucket[5m])))",
            "job",
        ),
        (
            "cutout_jobs_in_flight and on (job) sum by (job) (rate(cutout_jobs_total[5m]))",
            "ingress instance job",
        ),
        (
            "sum by (job, outcome) (cutout_jobs_total) / on (job) group_left () sum by (job) (cutout_jobs_total)",
            "job outcome",
        ),
        (
            "(sum(cutout_jobs_total) or vector(0)) / sum(cutout_jobs_total)",
            "",
        ),
        ("time() - cutout_jobs_in_flight", "ingress instance job"),
        ("absent(cutout_jobs_in_flight)", ""),
    ] {
        let found = labels(query, &exported).unwrap();
        let found: Vec<_> = found.iter().map(String::as_str).collect();
        assert_eq!(found.join(" "), expected, "{query}");
    }
}

#[test]
fn every_kind_of_mistake_is_found() {
    let exported = Exported::parse(TEXT);
    for (query, fault) in [
        ("sum by (job (cutout_jobs_total)", "no PromQL"),
        ("rate(cutout_jobs_total)", "no PromQL"),
        ("cutout_job_total", "nothing exports cutout_job_total"),
        ("cutout_job_seconds", "nothing exports cutout_job_seconds"),
        ("cutout_jobs_total{oucome=\"done\"}", "has no label oucome"),
        (
            "cutout_jobs_total{outcome=\"finished\"}",
            "has no outcome=\"finished\"",
        ),
        (
            "cutout_jobs_total{outcome!=\"finished\"}",
            "has no outcome=\"finished\"",
        ),
        (
            "cutout_jobs_total{outcome=~\"done|fialed\"}",
            "has no outcome=\"fialed\"",
        ),
        (
            "cutout_jobs_total{code=~\"image_.+|storge_.+\"}",
            "has no code=\"storge_.+\"",
        ),
        ("cutout_job_seconds_count{le=\"1\"}", "has no label le"),
        ("sum by (stage) (cutout_jobs_total)", "no stage to group by"),
        (
            "sum without (stage) (cutout_jobs_total)",
            "no stage to group by",
        ),
        ("rate(cutout_jobs_in_flight[5m])", "no counter"),
        (
            "histogram_quantile(0.9, sum(rate(cutout_job_seconds_bucket[5m])))",
            "no le",
        ),
        (
            "cutout_jobs_in_flight and on (outcome) cutout_jobs_total",
            "not on both sides",
        ),
        ("cutout_jobs_in_flight / cutout_jobs_total", "never match"),
        ("deriv(cutout_jobs_in_flight[5m])", "teach"),
    ] {
        let said = labels(query, &exported).expect_err(query);
        assert!(said.contains(fault), "{said}");
    }
}
