//! The search for the range that a call number is in.
//!
//! Most ranges only return something, and what they return is one of a few values. The short form has
//! one instruction for each boundary and one for each value; where a jump would be too long for it, as
//! in programs with hundreds of boundaries, each range has its own return.

use libc::sock_filter;

use super::compile::{Code, CompileError, IF_GREATER_OR_EQUAL, RETURN, Range, instruction, jump};

/// At least one range; the first begins at 0.
pub fn search(ranges: &[Range]) -> Result<Code, CompileError> {
    short(ranges).map_or_else(|| long(ranges), Ok)
}

fn long(ranges: &[Range]) -> Result<Code, CompileError> {
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let Some(middle) = upper.first().filter(|_| !lower.is_empty()) else {
        return Ok(ranges.first().map(|range| range.code.clone()).unwrap_or_default());
    };
    let (below, above) = (long(lower)?, long(upper)?);
    let mut code = match u8::try_from(below.len()) {
        Ok(length) => vec![instruction(IF_GREATER_OR_EQUAL, length, 0, middle.start)],
        Err(_) => vec![instruction(IF_GREATER_OR_EQUAL, 0, 1, middle.start), jump(below.len())?],
    };
    code.extend(below);
    code.extend(above);
    Ok(code)
}

#[derive(Clone, Copy)]
enum Goto {
    Next,
    /// To the instruction with this number.
    Place(usize),
    /// To whatever returns this value.
    Return(u32),
}

enum Item {
    Plain(sock_filter),
    Boundary { start: u32, above: Goto, below: Goto },
}

/// None if a jump would be too long.
fn short(ranges: &[Range]) -> Option<Code> {
    let mut items = Vec::new();
    emit(ranges, &mut items);
    let mut returns: Vec<u32> = Vec::new();
    let mut code = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let mut distance = |goto| {
            let place = match goto {
                Goto::Next => index + 1,
                Goto::Place(place) => place,
                Goto::Return(value) => {
                    let known = returns.iter().position(|it| *it == value);
                    items.len()
                        + known.unwrap_or_else(|| {
                            returns.push(value);
                            returns.len() - 1
                        })
                }
            };
            u8::try_from(place - index - 1).ok()
        };
        code.push(match *item {
            Item::Plain(plain) => plain,
            Item::Boundary { start, above, below } => {
                instruction(IF_GREATER_OR_EQUAL, distance(above)?, distance(below)?, start)
            }
        });
    }
    code.extend(returns.into_iter().map(|value| instruction(RETURN, 0, 0, value)));
    Some(code)
}

fn emit(ranges: &[Range], items: &mut Vec<Item>) {
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let Some(middle) = upper.first().filter(|_| !lower.is_empty()) else {
        items.extend(
            ranges
                .iter()
                .flat_map(|range| range.code.iter().copied().map(Item::Plain)),
        );
        return;
    };
    let here = items.len();
    let (above, below) = (returned(upper), returned(lower));
    items.push(Item::Boundary {
        start: middle.start,
        above: Goto::Next,
        below: Goto::Next,
    });
    if below.is_none() {
        emit(lower, items);
    }
    let above_at = items.len();
    if above.is_none() {
        emit(upper, items);
    }
    items[here] = Item::Boundary {
        start: middle.start,
        above: above.map_or(Goto::Place(above_at), Goto::Return),
        below: below.map_or(Goto::Next, Goto::Return),
    };
}

/// What a single range returns, if that is all it does.
fn returned(ranges: &[Range]) -> Option<u32> {
    match ranges {
        [range] => match range.code.as_slice() {
            [only] if only.code == RETURN => Some(only.k),
            _ => None,
        },
        _ => None,
    }
}
