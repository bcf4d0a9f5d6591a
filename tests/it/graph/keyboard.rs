//! The page of `graph -o html` by keyboard alone, with the keys that a user presses.
//!
//! Seen to fail when: `/` did not move to the search field; the list had no handler for keys; the picture's rows were
//! not in the order of tabs; Enter in the form did not ask.

use serde_json::Value;

use super::page::example;
use crate::cli::place::Place;
use crate::common::browser::Browser;

/// What has the focus: an id, or the workload of a row.
const FOCUSED: &str =
    "((at) => at.id || at.dataset.workload || at.dataset.end || at.textContent)(document.activeElement)";

fn focused(browser: &mut Browser) -> String {
    browser.evaluate(FOCUSED).as_str().unwrap().to_owned()
}

fn text(browser: &mut Browser, selector: &str) -> String {
    let found = browser.evaluate(&format!("document.querySelector('{selector}')?.textContent ?? 'nothing'"));
    found.as_str().unwrap().to_owned()
}

/// Presses Tab until this has the focus; fails after as many as the page could need.
fn tab_to(browser: &mut Browser, what: &str) {
    for _ in 0..40 {
        browser.press("Tab");
        if focused(browser) == what {
            return;
        }
    }
    panic!("Tab does not reach {what}");
}

/// The workloads that the list shows.
fn listed(browser: &mut Browser) -> Vec<String> {
    let rows = browser
        .evaluate("[...document.querySelectorAll('#list li:not([hidden]) .item')].map((i) => i.dataset.workload)");
    rows.as_array().unwrap().iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
}

#[test]
fn search_select_and_ask() {
    let place = Place::new("graph-keyboard", &[("empty", "")]);
    let mut browser = Browser::start();
    example(&mut browser, &place);
    let all = listed(&mut browser).len();
    browser.press("/");
    assert_eq!(focused(&mut browser), "search");
    browser.write("shop/");
    let some = listed(&mut browser);
    assert!(some.len() > 1 && some.len() < all && some.iter().all(|name| name.starts_with("shop/")), "{some:?}");
    browser.press("ArrowDown");
    assert_eq!(focused(&mut browser), some[0]);
    browser.press("ArrowDown");
    assert_eq!(focused(&mut browser), some[1]);
    browser.press("Home");
    browser.press("End");
    assert_eq!(focused(&mut browser), *some.last().unwrap());

    browser.press("/");
    browser.write("shop/api");
    browser.press("Enter");
    browser.press("Enter");
    assert_eq!(text(&mut browser, "#details-title"), "shop/api");
    assert_eq!(browser.evaluate("decodeURIComponent(location.hash)"), "#shop/api");
    browser.press("Enter");
    assert_eq!(focused(&mut browser), "details");

    tab_to(&mut browser, "What if from it…");
    browser.press("Enter");
    assert_eq!(
        (focused(&mut browser), browser.evaluate("document.getElementById('from').value")),
        ("to".into(), "shop/api".into())
    );
    browser.write("shop/db");
    tab_to(&mut browser, "port");
    browser.write("5432");
    browser.press("Enter");
    let answer = text(&mut browser, "#answer");
    assert!(answer.starts_with("✓ ALLOWED"), "{answer}");
    browser.press("Backspace");
    browser.write("3");
    browser.press("Enter");
    let answer = text(&mut browser, "#answer");
    assert!(answer.starts_with("✕ DENIED") && answer.contains("5433"), "{answer}");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn picture_and_escape() {
    let place = Place::new("graph-keyboard", &[("empty", "")]);
    let mut browser = Browser::start();
    example(&mut browser, &place);
    tab_to(&mut browser, "box");
    let before = text(&mut browser, "#zoom-level");
    browser.press("+");
    assert_ne!(text(&mut browser, "#zoom-level"), before);
    browser.press("0");
    browser.press("Tab");
    let first = focused(&mut browser);
    browser.press("ArrowDown");
    let second = focused(&mut browser);
    assert!(first.starts_with('w') && second.starts_with('w') && first != second, "{first}, {second}");
    browser.press("Enter");
    let name = browser
        .evaluate(&format!("JSON.parse(document.getElementById('data').textContent).workloads[{}].name", &second[1..]));
    assert_eq!(name, text(&mut browser, "#details-title").as_str());
    browser.press("Escape");
    assert_eq!(text(&mut browser, "#details-title"), "Details");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
