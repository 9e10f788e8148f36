"""The batch CA: the one writer, the one holder of CA keys, no listening port.

Reading order, from values to programs; each package says what it is for, and nothing imports upwards:

    profiles, rules                    the core, values in and values out: certificates, lists, notices; who may do what
    records, postgres                  all SQL, and the database that comes along
    keys, installation                 where keys live; all of it, open
    operations, signing                what several persons agree to, and the key in use
    residents, servers, cross, lists   what is issued, revoked and published
    generations, recovery              the key over the years, and when things go wrong
    archive                            what was written down, proved and reported
    watch                              programs that run for long
    acts, ceremonies                   which function performs which operation; ceremonies that consist of several
    cli                                on top, the command
"""
