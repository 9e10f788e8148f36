"""The CA's keys over the years: the first one, the next one, and the end of each."""
