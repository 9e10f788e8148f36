"""What certificates, lists and notices look like: values in, octets out, checked before and after signing."""
