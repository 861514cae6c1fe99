//! Reads what `/metrics` says: the Prometheus text format, as far as tests need it.

use crate::{Context, Result};

/// The samples of one scrape.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics(Vec<Sample>);

#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: String,
    value: f64,
}

impl Metrics {
    /// Reads the text of one scrape.
    ///
    /// # Errors
    /// When a line is neither a comment nor a sample.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines
            .filter(|line| !line.starts_with('#'))
            .map(sample)
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Returns the sum over all labels of `name`, or `None` if it was never recorded.
    pub fn sum(&self, name: &str) -> Option<f64> {
        let values: Vec<f64> = self
            .0
            .iter()
            .filter(|sample| sample.name == name)
            .map(|sample| sample.value)
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// Returns `name` with each of its label sets that is not zero, to say which one it was.
    pub fn not_zero(&self, name: &str) -> Vec<String> {
        let of_name = self
            .0
            .iter()
            .filter(|sample| sample.name == name && sample.value != 0.0);
        of_name
            .map(|sample| format!("{name}{{{}}} {}", sample.labels, sample.value))
            .collect()
    }
}

fn sample(line: &str) -> Result<Sample> {
    let wrong = || format!("not a sample: {line}");
    let (series, value) = match line.rfind('}') {
        Some(end) => line.split_at(end + 1),
        None => line.split_once(' ').context(wrong())?,
    };
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    // A time stamp may follow the value.
    let value = value.split_whitespace().next().context(wrong())?;
    let value = value.parse().context(wrong())?;
    Ok(Sample {
        name: name.to_owned(),
        labels: labels.trim_end_matches('}').to_owned(),
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRAPE: &str = "\
# HELP actor_stuck due and not moving
# TYPE actor_stuck gauge
actor_stuck{what=\"saga\"} 0
actor_stuck{what=\"mail box\"} 2
actor_nodes 1
";

    #[test]
    fn samples_of_one_name_are_summed_over_their_labels() {
        let metrics = Metrics::parse(SCRAPE).unwrap();

        assert_eq!(metrics.sum("actor_stuck"), Some(2.0));
        assert_eq!(metrics.sum("actor_nodes"), Some(1.0));
        assert_eq!(metrics.sum("actor_sessions"), None);
    }

    #[test]
    fn the_sample_that_is_not_zero_is_named() {
        let metrics = Metrics::parse(SCRAPE).unwrap();

        assert_eq!(
            metrics.not_zero("actor_stuck"),
            ["actor_stuck{what=\"mail box\"} 2"]
        );
    }

    #[test]
    fn a_line_that_is_no_sample_is_an_error() {
        assert!(Metrics::parse("<html>").is_err());
        assert!(Metrics::parse("actor_nodes many").is_err());
    }
}
