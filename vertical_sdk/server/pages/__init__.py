"""The pages of a served registry, for people: plain HTML that is complete without scripts and works under a strict CSP.

    /                          the published adapters, and the search
    /a/medical/icd-chapter     an adapter: its versions, aliases and the end of its log
    /a/medical/icd-chapter@3   a version: results, lineage, files, how to use it; /report after it is its report
    /log/medical/icd-chapter   the whole log

A page's address is the reference itself, and no name contains an "@": no published name can take another page's address.
"""
