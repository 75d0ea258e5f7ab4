use super::*;

#[test]
fn an_empty_blob_is_too_short_for_a_header() {
    let error = Devicetree::parse(&[]).unwrap_err();
    assert_eq!(error, TreeError { offset: 0, fault: TreeFault::Truncated { what: "header", needed: 40 } });
}
