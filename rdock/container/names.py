"""Names for containers that were given none: an adjective and a builder of boats, docks or bridges."""

from __future__ import annotations

import os

_QUALITIES = (
    "able agile amber ample ancient apt azure blithe bold bonny brave bright brisk calm candid clear clever cosy "
    "crisp daring deft eager early earnest even fair fond frank fresh gentle glad golden grand hale handy happy "
    "hardy hearty honest humble jolly keen kind lively loyal lucid lucky mellow merry mild modest neat nimble "
    "noble patient placid plucky polite proud quick quiet ready robust serene sharp silent silver sincere sleek "
    "smooth snug sober solid spry steady stoic sturdy sunny swift tender tidy tranquil trusty upbeat valiant "
    "vivid warm wise witty zesty"
).split()
_BUILDERS = (
    "ammann archimedes arkwright baker bazalgette bell bessemer boulton brindley brunel cerda cierva cochrane "
    "cort dakin eads edison eiffel ellet ericsson faraday finley fowler franklin freyssinet froude fulton gautier "
    "goethals harrison hawkshaw hennebique hodgkinson holland hornblower jenney jessop joule kaplan khan kelvin "
    "lesseps lindenthal locke maillart marconi maudslay mcadam menn metcalfe modjeski moisseiff monier murdoch "
    "nasmyth newcomen otis parsons paxton perronet polhem ravenna rennie riquet roebling savery smeaton steinman "
    "stephenson stevenson telford tesla torroja town trevithick vauban vitruvius watt whitworth wheatstone"
).split()


def invent() -> str:
    """A name that is probably free."""
    first, second = os.urandom(2), os.urandom(2)
    quality = _QUALITIES[int.from_bytes(first, "big") % len(_QUALITIES)]
    builder = _BUILDERS[int.from_bytes(second, "big") % len(_BUILDERS)]
    return f"{quality}_{builder}"
