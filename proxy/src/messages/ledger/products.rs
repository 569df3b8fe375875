use super::layout::Mapped;
use super::rows::{Cell, Delay, Rows};
use crate::messages::buckets::BUCKETS;
use crate::messages::document::{Percentiles, ProductRow};
use crate::messages::{ChainEnd, Kind, Outcome, Product};

/// What is known of each product that `upstream`, or any upstream, has had events of.
pub(super) fn products(
    rows: &Rows,
    words: &Mapped,
    outstanding: &[u64],
    upstream: Option<&str>,
    now: i64,
) -> Vec<ProductRow> {
    let of_product = |product: Product| {
        let all = rows.used().iter().zip(0u16..);
        let selected =
            all.filter(|((name, of), _)| *of == product && upstream.is_none_or(|only| only == &**name));
        let selected: Vec<u16> = selected.map(|(_, row)| row).collect();
        (!selected.is_empty()).then(|| sum(rows, words, outstanding, product, &selected, now))
    };
    Product::ALL.into_iter().filter_map(of_product).collect()
}

/// What is known of a product, of these rows together.
pub(super) fn sum(
    rows: &Rows,
    words: &Mapped,
    outstanding: &[u64],
    product: Product,
    selected: &[u16],
    now: i64,
) -> ProductRow {
    let cells = |cell: Cell| selected.iter().map(|row| rows.get(words, *row, cell)).sum::<u64>();
    let of_all_kinds =
        |outcome: Outcome| Kind::ALL.iter().map(|kind| cells(Cell::Outcome(*kind, outcome))).sum::<u64>();
    let delays = |delay: Delay| {
        let mut counts = [0u64; BUCKETS];
        for row in selected {
            let more = rows.delays(words, *row, delay, now);
            counts.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        }
        Percentiles::from(counts)
    };
    let of_row = |row: &u16| outstanding.get(usize::from(*row)).copied().unwrap_or(0);
    ProductRow {
        product: product.name().to_owned(),
        outcomes: Outcome::ALL.iter().map(|it| (it.name().to_owned(), of_all_kinds(*it))).collect(),
        outstanding: selected.iter().map(of_row).sum(),
        fwdproxy: cells(Cell::Fwdproxy),
        recovered_seconds: delays(Delay::Recovery),
        lag_seconds: delays(Delay::Lag),
        chains: ChainEnd::ALL.iter().map(|end| (end.name().to_owned(), cells(Cell::Chain(*end)))).collect(),
    }
}
