"""FoodWise: a food-saving campaign whose plate photos an edge model grades.

The toolkit's application, after arXiv:2307.12882, of which public texts tell
what it is and little of how: everything here is our design. A photo of a plate
is graded by a 4-bit evidential network on a simulated chip; what it is unsure
of goes to people, whose answers teach it; canteens are the clients.

    jaxedge foodwise serve

needs the extra `jaxedge[foodwise]`. `import jaxedge` imports none of it.
"""
