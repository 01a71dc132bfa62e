//! Money: US dollars, counted in whole millionths of a millionth, so that no sum is ever rounded.

use std::fmt;

/// US dollars in units of 10⁻¹²: a price per token as providers state it (dollars for a million
/// tokens, to six decimals) is a whole number of them. Sums saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dollars(u128);

/// Units of a dollar.
const DOLLAR: u128 = 1_000_000_000_000;
/// Units of a price per token in one of a dollar for a million tokens.
const PER_MILLION: u128 = DOLLAR / 1_000_000;
/// Most decimals that are read.
const DECIMALS: usize = 6;

impl Dollars {
    /// Nothing.
    pub const ZERO: Dollars = Dollars(0);

    /// Reads `12.50`: digits with at most six decimals; underscores may group them. `None` if it is
    /// anything else, or more than a thousand million dollars.
    pub fn parse(text: &str) -> Option<Dollars> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |text: &str| {
            let is_digit = |byte: u8| byte.is_ascii_digit() || byte == b'_';
            text.starts_with(|first: char| first.is_ascii_digit()) && text.bytes().all(is_digit)
        };
        if !is_number(whole) || !is_number(decimals) {
            return None;
        }
        let (whole, decimals) = (whole.replace('_', ""), decimals.replace('_', ""));
        let decimals = decimals.trim_end_matches('0');
        if whole.len() > 10 || decimals.len() > DECIMALS {
            return None;
        }
        let millionths = format!("{decimals:0<DECIMALS$}");
        let units = whole.parse::<u128>().ok()? * DOLLAR;
        let dollars = Dollars(units + millionths.parse::<u128>().ok()? * PER_MILLION);
        (dollars.0 <= DOLLAR * 1_000_000_000).then_some(dollars)
    }

    /// The price of one token where a million cost this much. What is below 10⁻¹² is dropped: it
    /// does not occur in prices with six decimals.
    pub fn a_millionth(self) -> Dollars {
        Dollars(self.0 / 1_000_000)
    }

    /// The price of one token from a table that says dollars for a million, as a float: to six
    /// decimals, rounded up where there are more.
    pub fn per_token_of_float(per_million: f64) -> Dollars {
        let units = per_million * PER_MILLION as f64;
        let nearest = units.round();
        let is_whole = (units - nearest).abs() <= nearest.abs() * 1e-9;
        // A cast saturates: negative and not a number are nothing.
        Dollars(if is_whole { nearest } else { units.ceil() } as u128)
    }

    /// As a float, for showing.
    pub fn to_f64(self) -> f64 {
        self.0 as f64 / DOLLAR as f64
    }

    /// So many tokens at this price for one.
    pub fn times(self, tokens: u64) -> Dollars {
        Dollars(self.0.saturating_mul(u128::from(tokens)))
    }
}

impl std::ops::Add for Dollars {
    type Output = Dollars;

    fn add(self, other: Dollars) -> Dollars {
        Dollars(self.0.saturating_add(other.0))
    }
}

impl std::iter::Sum for Dollars {
    fn sum<I: Iterator<Item = Dollars>>(all: I) -> Dollars {
        all.fold(Dollars::ZERO, std::ops::Add::add)
    }
}

impl fmt::Display for Dollars {
    /// `$12.50`, with as many more decimals as it has.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = format!("{:012}", self.0 % DOLLAR);
        let decimals = decimals.trim_end_matches('0');
        write!(f, "${}.{decimals:0<2}", self.0 / DOLLAR)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sum_is_read_and_shown_to_its_last_digit() {
        let shown = |text| Dollars::parse(text).map(|dollars| dollars.to_string());
        assert_eq!(shown("12.50").as_deref(), Some("$12.50"));
        assert_eq!(shown("0.000001").as_deref(), Some("$0.000001"));
        assert_eq!(shown("1_000").as_deref(), Some("$1000.00"));
        assert_eq!(shown("3.").as_deref(), None);
        for wrong in ["", "-1", "1e3", ".5", "0.0000001", "$3", "1.2.3", "_1", "99999999999"] {
            assert_eq!(shown(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_tables_float_is_taken_for_the_decimal_that_it_means() {
        for price in ["0.15", "0.075", "0.6", "1.25", "0.1", "15", "0.000001", "0"] {
            let exact = Dollars::parse(price).unwrap().a_millionth();
            assert_eq!(Dollars::per_token_of_float(price.parse().unwrap()), exact, "{price}");
        }
        let third = Dollars::per_token_of_float(1.0 / 3.0);
        assert_eq!(third, Dollars::parse("0.333334").unwrap().a_millionth());
        assert_eq!(Dollars::per_token_of_float(f64::NAN), Dollars::ZERO);
    }

    proptest! {
        #[test]
        fn no_token_is_ever_cheaper_than_its_price(price in 0.0_f64..500.0, tokens in 0_u64..1_000_000) {
            let cost = Dollars::per_token_of_float(price).times(tokens).to_f64();
            prop_assert!(cost >= price * tokens as f64 / 1e6 * (1.0 - 1e-8));
            prop_assert!(cost <= price * tokens as f64 / 1e6 * (1.0 + 1e-8) + tokens as f64 * 1e-12);
        }
    }
}
