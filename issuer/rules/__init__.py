"""What is judged without a database: quorums, operations, cases of cross-certification, the counting of records."""
