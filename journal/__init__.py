"""The record of every access and operation (監査ログ, 利用履歴): R-4-11-2-1, R-4-11-2-2.

Reading order: `record` (what one record says), `segment` (where it is appended).
"""
